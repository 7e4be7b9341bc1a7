// What could come next on a command line: the program itself answers the shells' question.
//
// The scripts that shells load know nothing of the commands: they call the program with
// `---completion` and the words before the cursor. So what is offered is what this very program
// takes, and one place decides it for all shells.

import Foundation

/// The answer to `---completion`: how files are completed, then a line for each word that fits.
struct Completion {
  /// A word, and what it is for.
  typealias Offer = (word: String, about: String)

  private(set) var offers: [Offer] = []
  /// `file` with extensions, `directory`, or `words`.
  private(set) var kind = "words"

  /// - Throws: ``CleanExit`` where the words ask for a script or come from one; ``CommandError``
  ///   where the script is for an unknown shell.
  static func answer(_ words: [String], for program: CommandInterface) throws {
    let option = "--generate-completion-script"
    guard let first = words.first else { return }
    if first == "---completion" {
      throw CleanExit.message(Completion(of: Array(words.dropFirst()), in: program).text)
    } else if first == option || first.hasPrefix(option + "=") {
      let login = ProcessInfo.processInfo.environment["SHELL"] ?? ""
      let named =
        first == option ? words.dropFirst().first : String(first.dropFirst(option.count + 1))
      let shell = named ?? login.split(separator: "/").last.map(String.init) ?? ""
      guard let script = CompletionScript.script(for: shell, program: program.name) else {
        let text = "There are completions for bash, zsh and fish, not for \(Spelling.quoted(shell))"
        let error = UsageError(.invalidValue, shell, text)
        throw CommandError(command: program, underlying: error)
      }
      throw CleanExit.message(script)
    }
  }

  /// The words are those after the program's name; the last, perhaps empty, is to be completed.
  init(of words: [String], in program: CommandInterface) {
    let current = words.last ?? ""
    var (command, before) = (program, words.dropLast()[...])
    while let word = before.first, let next = command.subcommand(named: word) {
      (command, before) = (next, before.dropFirst())
    }
    if before.first == "help", command.takesHelp(command.arguments) {
      for word in before.dropFirst() { command = command.subcommand(named: word) ?? command }
      offers = command.visibleSubcommands.map(Self.offer) + [("--man", "Show a manual page.")]
    } else {
      if before.isEmpty, !current.hasPrefix("-") {
        offers = command.visibleSubcommands.map(Self.offer)
        if command.takesHelp(command.arguments) { offers.append(("help", "Show help.")) }
      }
      while let next = command.defaultSubcommand { command = next }
      offerArguments(of: command, words, Array(before))
    }
    let equals = current.hasPrefix("--") ? current.firstIndex(of: "=") : nil
    let typed = equals.map { current[$0...].dropFirst() } ?? current[...]
    offers = offers.filter { $0.word.hasPrefix(typed) }
  }

  var text: String {
    ([kind] + offers.map { Spelling.harmless($0.word) + "\t" + Spelling.harmless($0.about) })
      .joined(separator: "\n")
  }

  private mutating func offerArguments(
    of command: CommandInterface, _ words: [String], _ before: [String]
  ) {
    let arguments = command.arguments
    var parser = WordParser(command, arguments, before)
    let current = words.last ?? ""
    do {
      try parser.parse()
    } catch {
      if let error = error as? UsageError, error.reason == .missingValue, parser.isAtEnd,
        let option = error.argument
      {
        offerValues(of: option, words, current)
      }
      return
    }
    let equals = current.firstIndex(of: "=")
    if current.hasPrefix("--"), let equals, !parser.optionsHaveEnded {
      let option = arguments.first { $0.names.contains(String(current[..<equals])) }
      if let option { offerValues(of: option, words, String(current[equals...].dropFirst())) }
      return
    }
    if !current.hasPrefix("-"), let next = parser.nextPositional {
      offerValues(of: next, words, current)
    }
    let isOption = current.hasPrefix("-") || (offers.isEmpty && kind == "words")
    guard isOption, !parser.optionsHaveEnded else { return }
    for argument in arguments + command.builtIn(beside: arguments) where !argument.isHidden {
      guard parser.given[argument.key] == nil || argument.arity == .list else { continue }
      offers += argument.names.map { ($0, argument.help.abstract) }
    }
  }

  private mutating func offerValues(
    of argument: DeclaredArgument, _ words: [String], _ prefix: String
  ) {
    switch argument.completion {
    case .file(let extensions): kind = (["file"] + extensions).joined(separator: " ")
    case .directory: kind = "directory"
    case .list(let values): offers += values.map { ($0, "") }
    case .custom(let values): offers += values(words, words.count - 1, prefix).map { ($0, "") }
    case nil: offers += argument.choices.map { ($0, "") }
    }
  }

  private static func offer(_ command: CommandInterface) -> Offer {
    (command.name, command.configuration.abstract)
  }
}
