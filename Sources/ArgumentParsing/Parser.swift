// Finds the command that words name, and gives each of its arguments the words that are its.

/// A command line that was understood.
public struct ParsedCommand {
  /// The command that the words name.
  public let interface: CommandInterface
  /// The words of each argument that was given, by ``DeclaredArgument/key``; of a flag, `true`.
  public let given: [[String]: [GivenValue]]
  /// The command with its values, not yet run.
  public let command: any ParsableCommand

  /// Reads the words after a program's name; by default those that it was started with.
  ///
  /// - Throws: ``CommandError`` around a ``UsageError`` or what `validate()` throws; ``CleanExit``
  ///   where the words ask for help, the version or a completion script.
  public init(_ root: any ParsableCommand.Type, _ words: [String]? = nil) throws {
    let program = CommandInterface(root)
    let words = words ?? Array(CommandLine.arguments.dropFirst())
    try Completion.answer(words, for: program)
    var search = CommandSearch(command: program, words: words)
    try search.descend()
    interface = search.command
    do {
      let arguments = interface.arguments
      try search.showWhatIsAskedFor(arguments)
      var parser = WordParser(interface, arguments, search.words)
      try parser.parse()
      given = parser.given
      let reading = Reading(given)
      let decoder = ArgumentDecoder(declaring: interface.type.init(), reading: reading)
      command = try interface.type.init(from: decoder)
      for check in reading.checks { try check() }
      try command.validate()
    } catch let error as CleanExit {
      throw error
    } catch {
      // A misspelt subcommand was taken for an argument of the default one.
      if let wrong = error as? UsageError, wrong.reason == .unexpectedArgument,
        let group = search.undecided, wrong.word == search.firstWord
      {
        throw CommandError(command: group, underlying: group.unknown(wrong.word))
      }
      throw CommandError(command: interface, underlying: error)
    }
  }
}

/// The way from a program to the command that is meant.
private struct CommandSearch {
  var command: CommandInterface
  var words: [String]
  /// The group whose default subcommand was taken.
  var undecided: CommandInterface?

  /// The first word that is no request for help or the version, which may stand anywhere.
  private var firstIndex: Int? {
    words.firstIndex { !["-h", "--help", "--version"].contains($0) }
  }
  var firstWord: String? { firstIndex.map { words[$0] } }

  mutating func descend() throws {
    while true {
      if firstWord == "help", command.takesHelp(command.arguments) { try showHelp() }
      if command.configuration.subcommands.isEmpty { return }
      if let index = firstIndex, let next = command.subcommand(named: words[index]) {
        words.remove(at: index)
        (command, undecided) = (next, nil)
      } else if let next = command.defaultSubcommand, firstIndex != nil || words.isEmpty {
        (command, undecided) = (next, command)
      } else if let word = firstWord, !word.hasPrefix("-"),
        !command.arguments.contains(where: { $0.kind == .positional })
      {
        throw CommandError(command: command, underlying: command.unknown(word))
      } else {
        return
      }
    }
  }

  /// `help`, then the command it is about, and `--man` for a manual page instead.
  private func showHelp() throws -> Never {
    var (target, isManual) = (command, false)
    for word in words where !["help", "-h", "--help"].contains(word) {
      if word == "--man" {
        isManual = true
      } else if let next = target.subcommand(named: word) {
        target = next
      } else {
        let option = UsageError.unknownOption(word, in: word, among: ["--man"])
        let error = word.hasPrefix("-") ? option : target.unknown(word)
        throw CommandError(command: target, underlying: error)
      }
    }
    throw CleanExit.message(isManual ? ManualPage(target).text : HelpText(target).text)
  }

  /// - Throws: ``CleanExit`` where a word is `--help`, `-h` or `--version` and no option of the
  ///   command's own.
  func showWhatIsAskedFor(_ arguments: [DeclaredArgument]) throws {
    let names = command.builtIn(beside: arguments).flatMap(\.names)
    if let asked = words.prefix(while: { $0 != "--" }).first(where: names.contains) {
      throw CleanExit.message(asked == "--version" ? command.version : HelpText(command).text)
    }
  }
}

extension CommandInterface {
  fileprivate func unknown(_ word: String) -> UsageError {
    configuration.subcommands.isEmpty
      ? .unexpectedArgument(word)
      : .unknownCommand(word, among: visibleSubcommands.map(\.name) + ["help"])
  }
}

/// Sorts one command's words.
struct WordParser {
  private let command: CommandInterface
  private let arguments: [DeclaredArgument]
  private let named: [String: DeclaredArgument]
  /// What a misspelt option may have been meant to be.
  private let known: [String]
  private var words: ArraySlice<String>
  private var positionals: ArraySlice<DeclaredArgument>
  private(set) var given: [[String]: [GivenValue]] = [:]
  /// Whether `--` was read, after which nothing is an option.
  private(set) var optionsHaveEnded = false
  var isAtEnd: Bool { words.isEmpty }
  /// What the next word would be, were it no option.
  var nextPositional: DeclaredArgument? { positionals.first }

  init(_ command: CommandInterface, _ arguments: [DeclaredArgument], _ words: [String]) {
    self.command = command
    self.arguments = arguments
    self.words = words[...]
    let names = arguments.flatMap { argument in argument.names.map { ($0, argument) } }
    named = Dictionary(names) { first, _ in first }
    positionals = arguments.filter { $0.kind == .positional }[...]
    known =
      arguments.filter { !$0.isHidden }.flatMap(\.names)
      + command.builtIn(beside: arguments).flatMap(\.names)
  }

  mutating func parse() throws {
    while let word = words.popFirst() {
      if optionsHaveEnded || isPlain(word) || isNegative(word, for: positionals.first) {
        guard let argument = positionals.first else { throw UsageError.unexpectedArgument(word) }
        add(word, to: argument)
        if argument.arity != .list { positionals.removeFirst() }
      } else if word == "--" {
        optionsHaveEnded = true
      } else if word.hasPrefix("--") {
        try takeLong(word)
      } else {
        try takeShort(word)
      }
    }
  }

  /// Whether a word can be no option: `-` alone is a file by custom, and no option begins with a space.
  private func isPlain(_ word: String) -> Bool {
    !word.hasPrefix("-") || word.dropFirst().first?.isWhitespace ?? true
  }

  /// Whether a word with a dash is a number for an argument that takes one.
  private func isNegative(_ word: String, for argument: DeclaredArgument?) -> Bool {
    guard argument?.isNumber ?? false, named[String(word.prefix(2))] == nil else { return false }
    return word.dropFirst().first?.isNumber ?? false || Double(word) != nil
  }

  private mutating func takeLong(_ word: String) throws {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(parts[0])
    guard let argument = named[name] else {
      throw UsageError.unknownOption(name, in: word, among: known)
    }
    switch (argument.kind, parts.count) {
    case (.flag, 1): add("true", to: argument, as: name)
    case (.flag, _): throw UsageError.valueForFlag(word, givenAs: name, argument)
    case (_, 1): add(try nextValue(for: argument, givenAs: name), to: argument, as: name)
    default: add(String(parts[1]), to: argument, as: name)
    }
  }

  /// `-v`, `-vx` of flags, `-o value`, `-ovalue`, `-o=value`, and flags before such an option.
  private mutating func takeShort(_ word: String) throws {
    var letters = word.dropFirst()
    while let letter = letters.popFirst() {
      let name = "-\(letter)"
      guard let argument = named[name] else {
        if name == "-h" { throw CleanExit.message(HelpText(command).text) }
        let isFirst = letters.count == word.count - 2
        throw UsageError.unknownOption(isFirst ? word : name, in: word, among: known)
      }
      if argument.kind == .flag {
        if letters.first == "=" { throw UsageError.valueForFlag(word, givenAs: name, argument) }
        add("true", to: argument, as: name)
      } else if letters.isEmpty {
        add(try nextValue(for: argument, givenAs: name), to: argument, as: name)
      } else {
        let value = letters.first == "=" ? letters.dropFirst() : letters
        return add(String(value), to: argument, as: name)
      }
    }
  }

  /// A word with a dash is taken for an option, known or misspelt, unless it can be none.
  private mutating func nextValue(
    for argument: DeclaredArgument, givenAs name: String
  ) throws -> String {
    if let next = words.first, isPlain(next) || isNegative(next, for: argument) {
      words.removeFirst()
      return next
    }
    let perhaps = words.first.flatMap { $0 == "--" || known.contains($0) ? nil : $0 }
    throw UsageError.missingValue(for: argument, givenAs: name, before: perhaps)
  }

  private mutating func add(_ word: String, to argument: DeclaredArgument, as name: String? = nil) {
    given[argument.key, default: []].append(GivenValue(word: word, name: name))
  }
}
