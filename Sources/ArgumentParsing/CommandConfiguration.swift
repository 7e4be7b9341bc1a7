// What a command says of itself.

/// A command's name, its help and its subcommands.
public struct CommandConfiguration: Sendable {
  /// By default the type's name in lower case with dashes.
  public var commandName: String?
  /// What it does, in a sentence.
  public var abstract: String
  /// More. Lines that begin with spaces, or have several in a row, are kept as they are.
  public var discussion: String
  /// What `--version` shows, here and in subcommands; empty: there is no such option.
  public var version: String
  /// Whether help, completion and the manual page name it.
  public var shouldDisplay: Bool
  /// The subcommands outside groups.
  public var ungroupedSubcommands: [any ParsableCommand.Type]
  /// Subcommands under titles of their own in help.
  public var groupedSubcommands: [CommandGroup]
  /// What is meant where no subcommand is named.
  public var defaultSubcommand: (any ParsableCommand.Type)?

  /// All subcommands.
  public var subcommands: [any ParsableCommand.Type] {
    ungroupedSubcommands + groupedSubcommands.flatMap(\.subcommands)
  }

  public init(
    commandName: String? = nil, abstract: String = "", discussion: String = "",
    version: String = "", shouldDisplay: Bool = true,
    subcommands: [any ParsableCommand.Type] = [], groupedSubcommands: [CommandGroup] = [],
    defaultSubcommand: (any ParsableCommand.Type)? = nil
  ) {
    self.commandName = commandName
    self.abstract = abstract
    self.discussion = discussion
    self.version = version
    self.shouldDisplay = shouldDisplay
    ungroupedSubcommands = subcommands
    self.groupedSubcommands = groupedSubcommands
    self.defaultSubcommand = defaultSubcommand
  }
}

/// Subcommands that belong together.
public struct CommandGroup: Sendable {
  /// The title, without "subcommands".
  public let name: String
  public let subcommands: [any ParsableCommand.Type]

  public init(name: String, subcommands: [any ParsableCommand.Type]) {
    self.name = name
    self.subcommands = subcommands
  }
}
