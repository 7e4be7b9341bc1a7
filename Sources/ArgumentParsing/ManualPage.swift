// A manual page of a command and all below it, in roff's man(7) macros.

import Foundation

struct ManualPage {
  private let command: CommandInterface
  private var lines: [String] = []
  /// Option groups with a title have a section at the end, once for all commands.
  private var shared: [(title: String, options: [DeclaredArgument])] = []

  init(_ command: CommandInterface) { self.command = command }

  /// The page; its date is today's, or that of `SOURCE_DATE_EPOCH`.
  var text: String {
    var page = self
    page.write()
    return page.lines.joined(separator: "\n")
  }

  private mutating func write() {
    let title = command.path.joined(separator: "-")
    let stamp = ProcessInfo.processInfo.environment["SOURCE_DATE_EPOCH"].flatMap(Double.init)
    let date = (stamp.map { Date(timeIntervalSince1970: $0) } ?? Date())
      .formatted(.iso8601.year().month().day())
    let source = [command.path[0], command.version].filter { !$0.isEmpty }.joined(separator: " ")
    lines = [
      ".TH \"\(Self.escaped(title.uppercased()))\" 1 \"\(date)\" \"\(Self.escaped(source))\"",
      ".SH NAME", Self.escaped("\(title) - \(command.configuration.abstract)"),
      ".SH SYNOPSIS",
    ]
    addSynopsis(of: command)
    if !command.configuration.discussion.isEmpty {
      lines.append(".SH DESCRIPTION")
      add(command.configuration.discussion)
    }
    addArguments(of: command, isTop: true)
    let below = command.tree.dropFirst().filter(\.configuration.shouldDisplay)
    if !below.isEmpty { lines.append(".SH COMMANDS") }
    for command in below {
      lines.append(".SS \"\(Self.escaped(command.invocation))\"")
      add(command.configuration.abstract)
      if command.configuration.subcommands.isEmpty {
        lines += paragraph
        addSynopsis(of: command)
      }
      if !command.configuration.discussion.isEmpty {
        lines += paragraph
        add(command.configuration.discussion)
      }
      addArguments(of: command, isTop: false)
    }
    for (title, options) in shared {
      lines.append(".SH \(Self.escaped(title.uppercased()))")
      for option in options { add(option) }
    }
  }

  private mutating func addSynopsis(of command: CommandInterface) {
    let parts = HelpText.synopsis(of: command, command.arguments.filter { !$0.isHidden })
    lines.append(".B " + Self.escaped(command.invocation))
    lines.append(Self.escaped(parts.joined(separator: " ")))
  }

  private mutating func addArguments(of command: CommandInterface, isTop: Bool) {
    let arguments = command.arguments.filter { !$0.isHidden }
    for title in arguments.map(\.section).uniqued() where !title.isEmpty {
      let group = arguments.filter { $0.section == title && $0.kind != .positional }
      let isNew = !shared.contains {
        $0.title == title && $0.options.map(\.names) == group.map(\.names)
      }
      if isNew { shared.append((title, group)) }
    }
    if isTop { lines.append(".SH OPTIONS") }
    for argument in arguments + (isTop ? command.builtIn(beside: arguments) : [])
    where argument.section.isEmpty || argument.kind == .positional {
      add(argument)
    }
  }

  private mutating func add(_ argument: DeclaredArgument) {
    let (names, value) = (argument.names, argument.placeholder)
    let bold = names.map { "\\fB" + Self.escaped($0) + "\\fR" }.joined(separator: ", ")
    let italic = value.isEmpty ? [] : ["\\fI" + Self.escaped(value) + "\\fR"]
    let entry = HelpText.entry(argument)
    lines += [".TP", ((names.isEmpty ? [] : [bold]) + italic).joined(separator: " ")]
    lines.append(entry.help.isEmpty ? "\\&" : Self.escaped(entry.help))
    if !entry.more.isEmpty {
      lines.append(".IP")
      add(entry.more)
    }
  }

  /// A text: lines laid out by hand stay so, and empty ones part paragraphs.
  private mutating func add(_ text: String) {
    var isSet = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let wantsSet = Terminal.isSet(line)
      if wantsSet != isSet { lines += wantsSet ? paragraph + [".nf"] : [".fi"] }
      isSet = wantsSet
      lines += line.allSatisfy(\.isWhitespace) ? paragraph : [Self.escaped(String(line))]
    }
    if isSet { lines.append(".fi") }
  }

  /// What begins a paragraph where none has just begun.
  private var paragraph: [String] {
    lines.last.map { line in [".PP", ".SS", ".SH", ".IP"].contains { line.hasPrefix($0) } } ?? true
      ? [] : [".PP"]
  }

  /// A text that roff shows as it is; long lists may be broken after commas.
  static func escaped(_ text: String) -> String {
    let escaped = Spelling.harmless(text, keepingLines: true)
      .replacing("\\", with: "\\e").replacing("-", with: "\\-").replacing("\"", with: "\\(dq")
      .replacing(/,(?=\S)/, with: ",\\:").replacing("\n", with: "\n\\&")
    return escaped.hasPrefix(".") || escaped.hasPrefix("'") ? "\\&" + escaped : escaped
  }
}
