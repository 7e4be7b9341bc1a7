// What can come of a command line other than a run: errors, exit codes and texts to show.

import Foundation

/// The code that a program exits with.
public struct ExitCode: Error, RawRepresentable, Hashable, Sendable {
  public let rawValue: Int32
  public init(rawValue: Int32) { self.rawValue = rawValue }
  public init(_ code: Int32) { rawValue = code }

  /// 0
  public static let success = ExitCode(0)
  /// 1: it was understood, but did not succeed.
  public static let failure = ExitCode(1)
  /// 2: the command line was wrong.
  public static let validationFailure = ExitCode(2)
}

/// Thrown by `validate()` or `run()` where what was given cannot be right: the message is shown with
/// the command's usage, and the program exits with 2.
public struct ValidationError: Error, CustomStringConvertible, Sendable {
  /// A sentence for whoever typed it.
  public let message: String
  public init(_ message: String) { self.message = message }
  public var description: String { message }
}

/// An end of the program that is no failure.
public enum CleanExit: Error, Sendable {
  /// Shows the help of a command; without one, of the command that throws it.
  case helpRequest((any ParsableCommand.Type)? = nil)
  /// Shows a text on standard output.
  case message(String)
}

/// Why a command line was refused.
public struct UsageError: Error, CustomStringConvertible, Sendable {
  /// What is wrong, for programs.
  public enum Reason: Sendable {
    case unknownCommand
    case unknownOption
    case unexpectedArgument
    case missingValue
    case missingArgument
    case invalidValue
    case valueForFlag
  }

  public let reason: Reason
  /// The word that is wrong as it was given; of something that is missing, the name.
  public let word: String
  /// The whole sentence.
  public let description: String
  /// What it was meant for, where that is known.
  public let argument: DeclaredArgument?
  /// The name by which it was given.
  let name: String?

  init(
    _ reason: Reason, _ word: String, _ description: String, argument: DeclaredArgument? = nil,
    name: String? = nil
  ) {
    self.reason = reason
    self.word = word
    self.description = description
    self.argument = argument
    self.name = name
  }

  private static func guess(_ word: String, among names: [String], end: String = "") -> String {
    Spelling.nearest(to: word, among: names).map { ". Did you mean '\($0)'?" } ?? end
  }

  static func unknownCommand(_ word: String, among names: [String]) -> Self {
    let text = "Unknown command \(Spelling.quoted(word))\(guess(word, among: names))"
    return UsageError(.unknownCommand, word, text)
  }

  static func unknownOption(_ name: String, in word: String, among names: [String]) -> Self {
    let place = word == name || word.hasPrefix(name + "=") ? "" : " in \(Spelling.quoted(word))"
    let text = "Unknown option \(Spelling.quoted(name))\(place)\(guess(name, among: names))"
    return UsageError(.unknownOption, word, text)
  }

  static func unexpectedArgument(_ word: String) -> Self {
    UsageError(.unexpectedArgument, word, "Unexpected argument \(Spelling.quoted(word))")
  }

  static func missingValue(
    for argument: DeclaredArgument, givenAs name: String, before next: String?
  ) -> Self {
    var text = "Missing value for '\(argument.written(as: name))'"
    if let next {
      text += "; if \(Spelling.quoted(next)) is the value, join them: "
      text += Spelling.quoted(name + (name.hasPrefix("--") ? "=" : "") + next)
    }
    return UsageError(.missingValue, name, text, argument: argument, name: name)
  }

  static func missingArgument(_ argument: DeclaredArgument) -> Self {
    let text = "Missing expected argument '\(argument.written())'"
    let name = argument.preferredName ?? argument.placeholder
    return UsageError(.missingArgument, name, text, argument: argument)
  }

  static func invalidValue(
    _ given: GivenValue, for argument: DeclaredArgument, because reason: (any Error)? = nil
  ) -> Self {
    var text = "The value \(Spelling.quoted(given.word)) is invalid for "
    text += "'\(argument.written(as: given.name))'"
    if let reason {
      text += ": \(Spelling.harmless("\(reason)", keepingLines: true))"
    } else if argument.isNumber {
      text += ", which takes a number"
    } else if !argument.choices.isEmpty {
      let quoted = argument.choices.map { "'\($0)'" }
      let all = [quoted.dropLast().joined(separator: ", "), quoted.last ?? ""]
      text += guess(given.word, among: argument.choices, end: ".")
      text += " Please provide one of " + all.filter { !$0.isEmpty }.joined(separator: " or ") + "."
    }
    return UsageError(.invalidValue, given.word, text, argument: argument, name: given.name)
  }

  static func valueForFlag(_ word: String, givenAs name: String, _ flag: DeclaredArgument) -> Self {
    let text = "'\(name)' takes no value, but there is one in \(Spelling.quoted(word))"
    return UsageError(.valueForFlag, word, text, argument: flag, name: name)
  }
}

/// An error with the command that it is about.
public struct CommandError: Error, CustomStringConvertible, Sendable {
  public let command: CommandInterface
  public let underlying: any Error
  public var description: String { "\(underlying)" }
}
