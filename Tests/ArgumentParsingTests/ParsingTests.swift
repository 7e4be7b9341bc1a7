// What command lines mean.

import ArgumentParsing
import Testing

@Suite struct ParsingTests {
  private func draw(_ words: String...) throws -> Draw {
    try #require(try Tool.parseAsRoot(["draw", "--times=4"] + words) as? Draw)
  }

  @Test("Options take their value from the next word, after = or, with one letter, at once")
  func spellings() throws {
    #expect(try Draw.parse(["3", "--times", "4"]).repetitions == 4)
    #expect(try Draw.parse(["3", "--times=4"]).repetitions == 4)
    for words in [["-p", "x"], ["-px"], ["-p=x"], ["--prompt", "x"], ["--prompt=x"], ["-fvpx"]] {
      let command = try #require(
        try Tool.parseAsRoot(["draw", "3", "--times=4"] + words) as? Draw)
      #expect(command.prompt == "x")
      #expect(command.fill == (words == ["-fvpx"]))
    }
    #expect(try draw("3", "--prompt=").prompt == "")
    #expect(try draw("3", "--prompt==a=b").prompt == "=a=b")
    #expect(try draw("3", "--prompt", "").prompt == "")
  }

  @Test("What is not given has its default, and properties without a wrapper keep theirs")
  func defaults() throws {
    let command = try draw("3")
    #expect(command.count == 3)
    #expect(command.place == nil)
    #expect(command.scale == 1.5)
    #expect(command.parts == ["edge", "corner"])
    #expect(command.options.shape == .circle)
    #expect(command.options.set.isEmpty)
    #expect(!command.fill)
    #expect(command.untouched == 7)
    #expect(command.describesUntouched == "nil")
    #expect(CommonOptions().shape == .circle)
  }

  @Test("A list gathers every use, and of other options the last use counts")
  func repeated() throws {
    let command = try draw("3", "--set", "a=1", "-s", "square", "--set=b=2", "-striangle")
    #expect(command.options.set == ["a=1", "b=2"])
    #expect(command.options.shape == .triangle)
    #expect(try draw("3", "--parts", "a,b", "--parts", "c").parts == ["c"])
    let add = try Items.Add.parse(["1", "--label=a", "2", "--label", "b", "3"])
    #expect(add.numbers == [1, 2, 3])
    #expect(add.label == ["a", "b"])
  }

  @Test("After -- nothing is an option, and a dash alone never is")
  func terminator() throws {
    #expect(try draw("3", "--", "--fill").place == "--fill")
    #expect(try draw("--", "3", "--").place == "--")
    #expect(try draw("3", "-").place == "-")
    #expect(try draw("3", "-p", "-").prompt == "-")
  }

  @Test("Negative numbers are values where numbers are wanted")
  func negative() throws {
    #expect(try draw("-3").count == -3)
    #expect(try draw("-3", "--times", "-5").repetitions == -5)
    #expect(try Items.Add.parse(["-1", "2", "-3"]).numbers == [-1, 2, -3])
    let list = try #require(try Tool.parseAsRoot(["items", "--limit", "-1"]) as? Items.List)
    #expect(list.limit == -1)
    let error = #expect(throws: CommandError.self) { try draw("3", "--prompt", "-1") }
    #expect((error?.underlying as? UsageError)?.reason == .missingValue)
  }

  @Test("A dash and a space begin a text, as lists in prompts do")
  func dashAndSpace() throws {
    #expect(try draw("3", "--prompt", "- milk\n- eggs").prompt == "- milk\n- eggs")
    #expect(try draw("3", "- milk").place == "- milk")
  }

  @Test("A word that is an option is no value, declared or not, unless it is joined")
  func noValue() throws {
    for word in ["--fill", "-f", "--help=", "--prompt", "--nothing", "-x"] {
      let error = #expect(throws: CommandError.self) { try draw("3", "--prompt", word) }
      #expect((error?.underlying as? UsageError)?.word == "--prompt")
      #expect(try draw("3", "--prompt=\(word)").prompt == word)
    }
  }

  @Test("Subcommands are found, and a default one where none is named")
  func subcommands() throws {
    #expect(try Tool.parseAsRoot([]) is Tool)
    #expect(try Tool.parseAsRoot(["items"]) is Items.List)
    #expect(try Tool.parseAsRoot(["items", "--limit", "5"]) is Items.List)
    #expect(try Tool.parseAsRoot(["items", "list"]) is Items.List)
    #expect(try Tool.parseAsRoot(["items", "add", "1"]) is Items.Add)
    #expect(try Tool.parseAsRoot(["quiet"]) is Quiet)
    #expect(try Tool.parseAsRoot(["fail", "3"]) is Fail)
  }

  @Test("Commands are values: what is changed in a copy stays there")
  func values() throws {
    let command = try draw("3")
    var copy = command
    copy.options.config = "x"
    copy.options.set.append("a=1")
    copy.scale = 2
    #expect(command.options.config == nil)
    #expect(command.options.set.isEmpty)
    #expect(command.scale == 1.5)
    #expect(copy.options.config == "x")
    #expect(copy.options.set == ["a=1"])
    let sendable: @Sendable () -> String? = { [copy] in copy.options.config }
    #expect(sendable() == "x")
  }

  @Test("A command's declarations can be looked at, and no two share a name")
  func introspection() throws {
    let tree = CommandInterface(Tool.self).tree
    #expect(
      tree.map(\.invocation) == [
        "tool", "tool draw", "tool items", "tool items list", "tool items add", "tool quiet",
        "tool fail",
      ])
    for command in tree {
      let names = command.arguments.flatMap(\.names)
      #expect(Set(names).count == names.count)
    }
    let shape = try #require(tree[1].arguments.first { $0.key == ["options", "shape"] })
    #expect(shape.names == ["-s", "--shape"])
    #expect(shape.choices == ["circle", "square", "triangle"])
    #expect(shape.section == "Common options")
    #expect(shape.defaultDescription == "circle")
    let parsed = try ParsedCommand(Tool.self, ["draw", "3", "-f", "--times=4", "-s", "square"])
    #expect(parsed.interface.invocation == "tool draw")
    #expect(parsed.given[["options", "shape"]]?.map(\.word) == ["square"])
    #expect(parsed.given[["options", "shape"]]?.map(\.name) == ["-s"])
    #expect(parsed.given[["fill"]]?.map(\.word) == ["true"])
    #expect(parsed.given[["scale"]] == nil)
  }
}
