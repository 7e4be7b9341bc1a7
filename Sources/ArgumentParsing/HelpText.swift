// The help of a command, and what is said of wrong use.

import Foundation

struct HelpText {
  private let command: CommandInterface
  private let columns: Int
  private let arguments: [DeclaredArgument]

  init(_ command: CommandInterface, columns: Int? = nil, on descriptor: Int32 = STDOUT_FILENO) {
    self.command = command
    self.columns = columns ?? Terminal.columns(of: descriptor)
    arguments = command.arguments.filter { !$0.isHidden }
  }

  var text: String {
    let configuration = command.configuration
    var sections: [String] = []
    let abstract = configuration.abstract.isEmpty ? "" : "OVERVIEW: " + configuration.abstract
    for text in [abstract, configuration.discussion] where !text.isEmpty {
      sections.append(Terminal.wrap(text, columns: columns))
    }
    sections.append(usage(after: "USAGE: "))
    let positionals = arguments.filter { $0.kind == .positional }
    add("ARGUMENTS", positionals.map(Self.entry), to: &sections)
    let options = arguments.filter { $0.kind != .positional } + command.builtIn(beside: arguments)
    for title in ([""] + options.map(\.section)).uniqued() {
      let entries = options.filter { $0.section == title }.map(Self.entry)
      add(title.isEmpty ? "OPTIONS" : title.uppercased(), entries, to: &sections)
    }
    add("SUBCOMMANDS", configuration.ungroupedSubcommands.compactMap(entry), to: &sections)
    for group in configuration.groupedSubcommands {
      let entries = group.subcommands.compactMap(entry)
      add(group.name.uppercased() + " SUBCOMMANDS", entries, to: &sections)
    }
    if !configuration.subcommands.isEmpty {
      let words = [command.path[0], "help"] + command.path.dropFirst() + ["<subcommand>"]
      sections.append("  See '\(words.joined(separator: " "))' for detailed help.")
    }
    return sections.joined(separator: "\n\n")
  }

  /// What is said of a line that cannot be understood.
  func refusal(_ error: UsageError) -> String {
    let help = error.argument.map { "Help:  \($0.written(as: error.name))  \(Self.entry($0).help)" }
    return refusal(error.description, help: help)
  }

  func refusal(_ message: String, help: String? = nil) -> String {
    [
      "Error: " + Spelling.harmless(message, keepingLines: true), help,
      usage(after: "Usage: "), "  See '\(command.invocation) --help' for more information.",
    ].compactMap(\.self).joined(separator: "\n")
  }

  private func usage(after title: String) -> String {
    // Parts are not broken: their spaces are others while lines are.
    let parts = [command.invocation] + Self.synopsis(of: command, arguments)
    let text = parts.map { $0.replacing(" ", with: "\u{A0}") }.joined(separator: " ")
    let indentation = min(title.count + 2, columns / 2)
    return title
      + Terminal.wrap(text, columns: columns, indentation: indentation, from: title.count)
      .replacing("\u{A0}", with: " ")
  }

  /// The parts of a synopsis: `[--limit <limit>]`, `<job>`. Many options are one part, and so are
  /// those of a group with a title; what must be given is always named.
  static func synopsis(of command: CommandInterface, _ arguments: [DeclaredArgument]) -> [String] {
    if !command.configuration.subcommands.isEmpty, arguments.isEmpty { return ["<subcommand>"] }
    let free = arguments.filter { $0.kind != .positional && !$0.isRequired }
    let many = free.count { $0.section.isEmpty } > 12
    return arguments.map { argument in
      let isOptional = argument.kind != .positional && !argument.isRequired
      if isOptional, !argument.section.isEmpty { return "[<\(argument.section.lowercased())>]" }
      if isOptional, many { return "[<options>]" }
      let written = argument.written() + (argument.arity == .list ? " ..." : "")
      return argument.isRequired ? written : "[\(written)]"
    }.uniqued()
  }

  typealias Entry = (label: String, help: String, more: String)

  /// Label, help and further help of an argument.
  static func entry(_ argument: DeclaredArgument) -> Entry {
    let names = argument.names.joined(separator: ", ")
    let label = [names, argument.placeholder].filter { !$0.isEmpty }.joined(separator: " ")
    var notes: [String] = []
    if !argument.choices.isEmpty {
      notes.append("values: " + argument.choices.joined(separator: ", "))
    }
    let value = argument.defaultDescription
    if !value.isEmpty { notes.append("default: " + value) }
    let note = notes.isEmpty ? "" : "(" + notes.joined(separator: "; ") + ")"
    let help = [argument.help.abstract, note].filter { !$0.isEmpty }.joined(separator: " ")
    return (label, help, argument.help.discussion)
  }

  private func entry(_ type: any ParsableCommand.Type) -> Entry? {
    guard type.configuration.shouldDisplay else { return nil }
    let isDefault = command.configuration.defaultSubcommand.map { $0 == type } ?? false
    let name = CommandInterface.name(of: type) + (isDefault ? " (default)" : "")
    return (name, type.configuration.abstract, "")
  }

  private func add(_ title: String, _ entries: [Entry], to sections: inout [String]) {
    guard !entries.isEmpty else { return }
    let column = columns < 60 ? 8 : 26
    let margin = String(repeating: " ", count: column)
    let lines = entries.map { entry in
      var line = "  " + entry.label
      if !entry.help.isEmpty {
        let width = Terminal.cells(line)
        line += width < column ? String(repeating: " ", count: column - width) : "\n" + margin
        line += Terminal.wrap(entry.help, columns: columns, indentation: column)
      }
      if !entry.more.isEmpty {
        line += "\n" + margin + Terminal.wrap(entry.more, columns: columns, indentation: column)
      }
      return line
    }
    sections.append(([title + ":"] + lines).joined(separator: "\n"))
  }
}

extension [String] {
  /// The first of each that are equal.
  func uniqued() -> [String] {
    var seen: Set<String> = []
    return filter { seen.insert($0).inserted }
  }
}
