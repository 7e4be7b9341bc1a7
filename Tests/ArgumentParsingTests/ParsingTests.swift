// What command lines mean.

import ArgumentParsing
import Testing

@Suite struct ParsingTests {
  private func draw(_ words: String...) throws -> Draw {
    try #require(try Tool.parseAsRoot(["draw"] + words) as? Draw)
  }

  @Test("Options take their value from the next word, after = or, with one letter, at once")
  func spellings() throws {
    #expect(try draw("3", "--times", "4").repetitions == 4)
    #expect(try draw("3", "--times=4").repetitions == 4)
    for words in [["-p", "x"], ["-px"], ["-p=x"], ["--prompt", "x"], ["--prompt=x"], ["-fvpx"]] {
      let command = try #require(
        try Tool.parseAsRoot(["draw", "3", "--times=4"] + words) as? Draw)
      #expect(command.prompt == "x")
      #expect(command.fill == (words == ["-fvpx"]))
    }
    #expect(try draw("3", "--times=4", "--prompt=").prompt == "")
    #expect(try draw("3", "--times=4", "--prompt==a=b").prompt == "=a=b")
  }

  @Test("What is not given has its default, and properties without a wrapper keep theirs")
  func defaults() throws {
    let command = try draw("3", "--times", "4")
    #expect(command.count == 3)
    #expect(command.place == nil)
    #expect(command.scale == 1.5)
    #expect(command.parts == ["edge", "corner"])
    #expect(command.options.shape == .circle)
    #expect(command.options.set.isEmpty)
    #expect(!command.fill)
    #expect(command.untouched == 7)
  }
}
