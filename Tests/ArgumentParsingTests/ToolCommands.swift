// A command tree that has everything a declaration can say.

import ArgumentParsing

enum Shape: String, ExpressibleByArgument, CaseIterable { case circle, square, triangle }

struct CommonOptions: ParsableArguments {
  @Option(help: "A file of settings.", completion: .file(extensions: ["yaml"])) var config: String?
  @Option(help: ArgumentHelp("One setting.", valueName: "key=value")) var set: [String] = []
  @Option(name: [.customShort("s"), .long], help: "What it looks like.") var shape: Shape = .circle
  @Option(help: ArgumentHelp("For developers.", visibility: .hidden)) var secret = 0

  func validate() throws {
    if config == "bad" { throw ValidationError("--config bad: the file cannot be read.") }
  }
}

struct Tool: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tool", abstract: "A tool for tests.",
    discussion: """
      It draws, and it counts, and while it does so this line gets longer than eighty columns are.

      First:    tool draw
      Then:     tool items add 1 2 3 --label "a label that makes this line longer than eighty columns"
      """,
    version: "1.2.3", subcommands: [Draw.self, Items.self, Quiet.self],
    groupedSubcommands: [CommandGroup(name: "Rare", subcommands: [Fail.self])])
}

struct Draw: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Draw shapes.")

  @OptionGroup(title: "Common options") var options: CommonOptions
  @Argument(help: "How many.", completion: .list(["1", "2"])) var count: Int
  @Argument(help: "Where to.", completion: .directory) var place: String?
  @Option(name: .shortAndLong, help: "What is written on it.") var prompt: String?
  @Option(help: "How large.") var scale: Float = 1.5
  @Option(name: .customLong("times"), help: "How often; must be given.") var repetitions: Int
  @Flag(name: .shortAndLong, help: "Fill it.") var fill = false
  @Flag(name: [.customShort("v"), .long], help: "Say more.") var verbose = false
  @Option(help: "Parts with commas.", transform: { $0.split(separator: ",").map(String.init) })
  var parts = ["edge", "corner"]
  @Option(
    help: "A colour.",
    completion: .custom { words, index, prefix in ["red", "rose", words[index - 1]] })
  var colour: String?
  var untouched = 7
  private var alsoUntouched: String?
  var describesUntouched: String { alsoUntouched ?? "nil" }

  func validate() throws {
    guard scale > 0 else { throw ValidationError("--scale must be above 0, not \(scale).") }
  }

  func run() async throws {}
}

struct Items: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Items.", subcommands: [List.self, Add.self], defaultSubcommand: List.self)

  struct List: ParsableCommand {
    @OptionGroup var options: CommonOptions
    @Option(help: "Rows at most.") var limit = 200
  }

  struct Add: ParsableCommand {
    @Argument(help: "Their numbers.") var numbers: [Int]
    @Option var label: [String] = []
    @Flag var execute = false
  }
}

struct Quiet: ParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)
}

struct Fail: ParsableCommand {
  @Argument(help: "With this code.") var code: Int32 = 1
  func run() throws {
    guard code < 256 else { throw ValidationError("\(code) is no exit code") }
    throw ExitCode(code)
  }
}
