// What commands conform to, and how a program starts with them.

import Foundation

/// Options and arguments: those of a command, or a group of them that commands share.
public protocol ParsableArguments: Decodable, SendableMetatype {
  /// Every property as it is declared, nothing read into it.
  init()

  /// Checks that what was given goes together; throws a ``ValidationError`` where it does not.
  func validate() throws
}

/// A command: what it takes is declared by its properties.
public protocol ParsableCommand: ParsableArguments {
  /// The command's name, its help and its subcommands; by default nothing is said.
  static var configuration: CommandConfiguration { get }

  /// Does the command's work. Without one of its own, a command shows its help.
  mutating func run() throws
}

/// A command whose work is asynchronous. So must be the program's root, where any command is.
public protocol AsyncParsableCommand: ParsableCommand {
  /// Does the command's work. Without one of its own, a command shows its help.
  mutating func run() async throws
}

extension ParsableArguments {
  public func validate() throws {}
}

extension ParsableCommand {
  public static var configuration: CommandConfiguration { CommandConfiguration() }

  public mutating func run() throws { throw CleanExit.helpRequest() }

  /// Reads words as this command's or, where they name one, a subcommand's; by default the words
  /// that the program was started with.
  ///
  /// - Throws: as ``ParsedCommand/init(_:_:)``.
  public static func parseAsRoot(_ words: [String]? = nil) throws -> any ParsableCommand {
    try ParsedCommand(self, words).command
  }

  /// Reads words as this very command's.
  ///
  /// - Throws: as ``parseAsRoot(_:)``, and a ``CommandError`` where a subcommand is named.
  public static func parse(_ words: [String]? = nil) throws -> Self {
    let parsed = try ParsedCommand(self, words)
    if let command = parsed.command as? Self { return command }
    let error = UsageError.unexpectedArgument(parsed.interface.name)
    throw CommandError(command: CommandInterface(self), underlying: error)
  }

  /// Runs what the program's words name, and exits where that fails or is to show something.
  public static func main() { main(nil) }

  /// ``main()`` with words of its own.
  public static func main(_ words: [String]?) {
    do {
      let parsed = try ParsedCommand(self, words)
      var command = parsed.command
      do {
        // Its work would be passed over in silence.
        if command is any AsyncParsableCommand { throw AsynchronousCommandError() }
        try command.run()
      } catch { throw CommandError(command: parsed.interface, underlying: error) }
    } catch { exit(withError: error) }
  }

  /// Shows what an error has to say, help and versions on standard output, all else on standard
  /// error, and exits with its code.
  public static func exit(withError error: (any Error)? = nil) -> Never {
    let error = error ?? ExitCode.success
    let code = exitCode(for: error)
    Terminal.write(fullMessage(for: error), to: code == .success ? STDOUT_FILENO : STDERR_FILENO)
    Foundation.exit(code.rawValue)
  }

  /// The code that the program exits with for an error: 2 for wrong use, 1 for others but ``ExitCode``.
  public static func exitCode(for error: any Error) -> ExitCode {
    switch error {
    case let error as CommandError: exitCode(for: error.underlying)
    case let code as ExitCode: code
    case is CleanExit: .success
    case is UsageError, is ValidationError: .validationFailure
    default: .failure
    }
  }

  /// What the program shows of an error; empty for an ``ExitCode``.
  public static func fullMessage(for error: any Error) -> String {
    let command = (error as? CommandError)?.command ?? CommandInterface(self)
    let error = (error as? CommandError)?.underlying ?? error
    switch error {
    case is ExitCode: return ""
    case CleanExit.message(let text): return text
    case CleanExit.helpRequest(nil): return HelpText(command).text
    case CleanExit.helpRequest(let type?): return helpMessage(for: type)
    case let error as UsageError: return HelpText(command, on: STDERR_FILENO).refusal(error)
    case let error as ValidationError:
      return HelpText(command, on: STDERR_FILENO).refusal(error.message)
    default:
      let text = (error as? any LocalizedError)?.errorDescription ?? "\(error)"
      return "Error: " + Spelling.harmless(text, keepingLines: true)
    }
  }

  /// The help of this command, or of one below it; in so many columns, or the terminal's.
  public static func helpMessage(
    for subcommand: (any ParsableCommand.Type)? = nil, columns: Int? = nil
  ) -> String {
    let wanted = subcommand ?? self
    let command = CommandInterface(self).tree.first { $0.type == wanted }
    return HelpText(command ?? CommandInterface(wanted), columns: columns).text
  }
}

private struct AsynchronousCommandError: Error, CustomStringConvertible {
  let description = "An asynchronous command needs an AsyncParsableCommand as its program's root."
}

extension AsyncParsableCommand {
  public mutating func run() async throws { throw CleanExit.helpRequest() }

  /// Runs what the program's words name, and exits where that fails or is to show something.
  public static func main() async { await main(nil) }

  /// ``main()`` with words of its own.
  public static func main(_ words: [String]?) async {
    do {
      let parsed = try ParsedCommand(self, words)
      var command = parsed.command
      do {
        if var asynchronous = command as? any AsyncParsableCommand {
          try await asynchronous.run()
        } else {
          try command.run()
        }
      } catch { throw CommandError(command: parsed.interface, underlying: error) }
    } catch { exit(withError: error) }
  }
}
