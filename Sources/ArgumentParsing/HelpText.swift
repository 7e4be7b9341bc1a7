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
    if !configuration.abstract.isEmpty {
      sections.append(Terminal.wrap("OVERVIEW: " + configuration.abstract, columns: columns))
    }
    if !configuration.discussion.isEmpty {
      sections.append(Terminal.wrap(configuration.discussion, columns: columns))
    }
    sections.append(usage(after: "USAGE: "))
    let options = arguments.filter { $0.kind != .positional }
    add("ARGUMENTS", arguments.filter { $0.kind == .positional }.map(Self.entry), to: &sections)
    add(
      "OPTIONS",
      options.filter { $0.section.isEmpty }.map(Self.entry)
        + command.builtIn(beside: arguments).map { ($0.names.joined(separator: ", "), $0.help, "") },
      to: &sections)
    for title in options.map(\.section).uniqued() where !title.isEmpty {
      let entries = options.filter { $0.section == title }.map(Self.entry)
      add(title.uppercased(), entries, to: &sections)
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
    guard let argument = error.argument else { return refusal(error.description) }
    let label = argument.written(as: error.name)
    let help = "Help:  \(label)  \(Self.entry(argument).help)"
    return refusal(error.description, help: Terminal.wrap(help, columns: columns, indentation: 2))
  }

  func refusal(_ message: String, help: String? = nil) -> String {
    [
      "Error: " + Spelling.harmless(message, keepingLines: true), help,
      usage(after: "Usage: "), "  See '\(command.invocation) --help' for more information.",
    ].compactMap(\.self).joined(separator: "\n")
  }

  private func usage(after title: String) -> String {
    let words = [command.invocation] + Self.synopsis(of: command, arguments)
    return Self.fill(words, after: title, columns: columns)
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

  /// Parts that are not broken, in lines that begin below the first part.
  private static func fill(_ parts: [String], after title: String, columns: Int) -> String {
    var (lines, width) = ([title + parts[0]], Terminal.cells(title + parts[0]))
    let margin = String(repeating: " ", count: min(title.count + 2, columns / 2))
    for part in parts.dropFirst() {
      let cells = Terminal.cells(part)
      if width + 1 + cells <= columns {
        lines[lines.count - 1] += " " + part
        width += 1 + cells
      } else {
        lines.append(margin + part)
        width = margin.count + cells
      }
    }
    return lines.joined(separator: "\n")
  }

  /// Label, help and further help of an argument.
  static func entry(_ argument: DeclaredArgument) -> (label: String, help: String, more: String) {
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

  private func entry(
    _ type: any ParsableCommand.Type
  ) -> (label: String, help: String, more: String)? {
    guard type.configuration.shouldDisplay else { return nil }
    let isDefault = command.configuration.defaultSubcommand.map { $0 == type } ?? false
    let name = CommandInterface.name(of: type) + (isDefault ? " (default)" : "")
    return (name, type.configuration.abstract, "")
  }

  private func add(
    _ title: String, _ entries: [(label: String, help: String, more: String)],
    to sections: inout [String]
  ) {
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
