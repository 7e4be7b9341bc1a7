// A command as it is seen from outside: what parsing, help, completion and the manual page are made from.

/// A command's place in its program, and what it declares.
///
/// Made from the types alone, and only where it is asked for: neither subcommands nor arguments are
/// looked at before.
public struct CommandInterface: Sendable {
  /// The program's name and the commands' names down to this one.
  public let path: [String]
  public let type: any ParsableCommand.Type
  /// The nearest version, of this command or one above it; empty without one.
  public let version: String

  /// A whole program.
  public init(_ root: any ParsableCommand.Type) { self.init(root, under: nil) }

  private init(_ type: any ParsableCommand.Type, under parent: CommandInterface?) {
    let own = type.configuration.version
    path = (parent?.path ?? []) + [Self.name(of: type)]
    version = own.isEmpty ? parent?.version ?? "" : own
    self.type = type
  }

  static func name(of type: any ParsableCommand.Type) -> String {
    type.configuration.commandName ?? Spelling.dashed("\(type)")
  }

  public var configuration: CommandConfiguration { type.configuration }

  /// The command's name.
  public var name: String { path.last ?? "" }

  /// The whole path as it is typed.
  public var invocation: String { path.joined(separator: " ") }

  /// What the command itself declares, in its order.
  public var arguments: [DeclaredArgument] { DeclaredArgument.all(of: type.init()) }

  /// In the order of the configuration.
  public var subcommands: [CommandInterface] {
    configuration.subcommands.map { CommandInterface($0, under: self) }
  }

  /// What is meant where no subcommand is named.
  public var defaultSubcommand: CommandInterface? {
    configuration.defaultSubcommand.map { CommandInterface($0, under: self) }
  }

  /// This command and all below it.
  public var tree: [CommandInterface] { [self] + subcommands.flatMap(\.tree) }

  func subcommand(named name: String) -> CommandInterface? {
    configuration.subcommands.first { Self.name(of: $0) == name }
      .map { CommandInterface($0, under: self) }
  }

  var visibleSubcommands: [CommandInterface] {
    subcommands.filter(\.configuration.shouldDisplay)
  }

  /// Whether `help` as its first word asks for help.
  func takesHelp(_ arguments: [DeclaredArgument]) -> Bool {
    subcommand(named: "help") == nil
      && (!configuration.subcommands.isEmpty
        || (path.count == 1 && !arguments.contains { $0.kind == .positional }))
  }

  /// `--version` and `--help`, as far as the command has no options of its own that are called so.
  func builtIn(beside arguments: [DeclaredArgument]) -> [DeclaredArgument] {
    let own = Set(arguments.flatMap(\.names))
    let all: [([String], ArgumentHelp)] = [
      (version.isEmpty ? [] : ["--version"], "Show the version."),
      (["-h", "--help"], "Show help information."),
    ]
    return all.compactMap { names, help in
      var flag = DeclaredArgument(
        kind: .flag, name: [], help: help, completion: nil, arity: .one, choices: [],
        isNumber: false, isRequired: false, defaultDescription: "")
      flag.names = names.filter { !own.contains($0) }
      return flag.names.isEmpty ? nil : flag
    }
  }
}
