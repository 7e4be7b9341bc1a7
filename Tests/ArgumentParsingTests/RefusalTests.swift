// What is said where a command line is wrong, and how the program ends.

import ArgumentParsing
import Testing

/// What the program would show.
func message(_ words: String...) -> String {
  do {
    _ = try Tool.parseAsRoot(words)
    return ""
  } catch { return Tool.fullMessage(for: error) }
}

@Suite struct RefusalTests {
  @Test("A misspelt command names the nearest one")
  func commands() {
    #expect(message("darw").hasPrefix("Error: Unknown command 'darw'. Did you mean 'draw'?\n"))
    #expect(message("it").hasPrefix("Error: Unknown command 'it'. Did you mean 'items'?\n"))
    #expect(message("items", "lst").contains("Unknown command 'lst'. Did you mean 'list'?\n"))
    #expect(message("items", "lst").contains("See 'tool items --help'"))
    #expect(message("frobnicate").hasPrefix("Error: Unknown command 'frobnicate'\n"))
    #expect(message("hlep").contains("Did you mean 'help'?"))
    #expect(message("help", "drwa").contains("Unknown command 'drwa'. Did you mean 'draw'?"))
    #expect(message("help", "--mna").contains("Unknown option '--mna'. Did you mean '--man'?"))
    // What help does not name, messages do not either.
    #expect(!message("quite").contains("Did you mean"))
  }

  @Test("A misspelt option names the nearest one, or the one that it begins")
  func options() {
    for (word, name, meant) in [
      ("--shpae=x", "--shpae", "--shape"), ("--verb", "--verb", "--verbose"),
      ("-times", "-times", "--times"),
    ] {
      #expect(
        message("draw", word).contains("Unknown option '\(name)'. Did you mean '\(meant)'?\n"))
    }
    #expect(message("draw", "-fx").contains("Unknown option '-x' in '-fx'"))
    #expect(message("--vresion").contains("Did you mean '--version'?"))
    #expect(!message("draw", "--secert").contains("--secret"))
  }

  @Test("A wrong value names itself, its option as it was given, and what it may be")
  func values() {
    #expect(
      message("draw", "-s", "sqare", "1", "--times", "1").hasPrefix(
        """
        Error: The value 'sqare' is invalid for '-s <shape>'. Did you mean 'square'? Please provide one \
        of 'circle', 'square' or 'triangle'.
        Help:  -s <shape>
        """))
    #expect(
      message("draw", "--times", "many", "1").hasPrefix(
        "Error: The value 'many' is invalid for '--times <times>', which takes a number\n"))
    #expect(message("draw", "x", "--times=1").contains("The value 'x' is invalid for '<count>'"))
    #expect(message("draw", "1", "--times=1", "--fill=no").contains("takes no value"))
    // The last one counts, but a wrong one is not passed over.
    #expect(message("draw", "1", "--times=x", "--times=1").contains("'x' is invalid"))
    #expect(message("fail", "99999999999").contains("'99999999999' is invalid for '<code>'"))
  }

  @Test("What is missing is named, with its help, the usage of its command and the way to more")
  func missing() {
    // How its lines are broken is the terminal's matter.
    let text = message("draw", "1", "2", "--prompt").replacing(/\n {3,}/, with: " ")
    #expect(
      text == """
        Error: Missing value for '--prompt <prompt>'
        Help:  --prompt <prompt>  What is written on it.
        Usage: tool draw [<common options>] <count> [<place>] [--prompt <prompt>] \
        [--scale <scale>] --times <times> [--fill] [--verbose] [--parts <parts>] \
        [--colour <colour>]
          See 'tool draw --help' for more information.
        """)
    #expect(message("draw", "--times=1").contains("Missing expected argument '<count>'"))
    #expect(message("draw", "1").contains("Missing expected argument '--times <times>'"))
    #expect(message("items", "add").contains("Missing expected argument '<numbers>'"))
    #expect(message("draw", "1", "a", "b", "--times=1").contains("Unexpected argument 'b'"))
    #expect(
      message("draw", "--prompt", "-x").contains(
        "Missing value for '--prompt <prompt>'; if '-x' is the value, join them: '--prompt=-x'"))
  }

  @Test("What validate() refuses has the usage of its command, and comes after all else")
  func validation() {
    #expect(
      message("draw", "1", "--times=1", "--scale=0").hasPrefix(
        "Error: --scale must be above 0, not 0.0.\nUsage: tool draw ["))
    #expect(
      message("items", "--config=bad").hasPrefix(
        "Error: --config bad: the file cannot be read.\nUsage: tool items list ["))
    #expect(message("draw", "--config=bad", "1").contains("Missing expected argument"))
  }

  @Test("Control characters of words are written out, and long words are cut")
  func untrusted() {
    #expect(message("\u{1B}[31mred\n").contains("Unknown command '\\u{1B}[31mred\\n'"))
    #expect(message("draw", "--x\u{202E}y").contains("'--x\\u{202E}y'"))
    let long = message("draw", String(repeating: "a", count: 1_000_000))
    #expect(long.count < 2_000)
    #expect(long.contains("aaa…'") || long.contains("aaa'…"))
    struct Odd: Error, CustomStringConvertible { let description = "odd\u{7}" }
    #expect(Tool.fullMessage(for: Odd()) == "Error: odd\\u{07}")
    #expect(Tool.fullMessage(for: ValidationError("a\u{1B}b")).hasPrefix("Error: a\\u{1B}b\n"))
  }

  @Test("Wrong use exits with 2, other errors with 1, and help and versions with 0")
  func codes() throws {
    struct Other: Error {}
    #expect(Tool.exitCode(for: Other()) == .failure)
    #expect(Tool.exitCode(for: ValidationError("x")) == ExitCode(2))
    #expect(Tool.exitCode(for: ExitCode(130)) == ExitCode(130))
    #expect(Tool.exitCode(for: CleanExit.message("x")) == .success)
    for words in [
      ["rnu"], ["draw", "--x"], ["draw", "x"], ["draw", "1", "--times=1", "--scale=-1"],
    ] {
      let error = try #require(throws: CommandError.self) { try Tool.parseAsRoot(words) }
      #expect(Tool.exitCode(for: error) == .validationFailure)
    }
    for words in [["--help"], ["draw", "-h"], ["--version"], ["help", "draw"]] {
      let error = try #require(throws: CleanExit.self) { try Tool.parseAsRoot(words) }
      #expect(Tool.exitCode(for: error) == .success)
    }
  }

  @Test("The program says what is wrong on standard error and exits with 2")
  func wrongUseOfProgram() async throws {
    let result = try #require(
      await #expect(
        processExitsWith: .exitCode(2),
        observing: [\.standardErrorContent, \.standardOutputContent]
      ) { await Tool.main(["draw", "--tiems", "3"]) })
    let text = String(decoding: result.standardErrorContent, as: UTF8.self)
    #expect(text.contains("Unknown option '--tiems'. Did you mean '--times'?\nUsage: tool draw"))
    #expect(!String(decoding: result.standardOutputContent, as: UTF8.self).contains("Usage"))
  }

  @Test("What run() refuses has the usage of the command that ran")
  func refusedByRun() async throws {
    let result = try #require(
      await #expect(processExitsWith: .exitCode(2), observing: [\.standardErrorContent]) {
        await Tool.main(["fail", "2000"])
      })
    let text = String(decoding: result.standardErrorContent, as: UTF8.self)
    #expect(text.contains("Error: 2000 is no exit code\nUsage: tool fail [<code>]\n"))
    await #expect(processExitsWith: .exitCode(7)) { await Tool.main(["fail", "7"]) }
  }

  @Test("A command without work of its own shows its help on standard output")
  func groupOfProgram() async throws {
    let result = try #require(
      await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
        await Tool.main([])
      })
    let text = String(decoding: result.standardOutputContent, as: UTF8.self)
    #expect(text.contains("OVERVIEW: A tool for tests."))
    #expect(text.contains("USAGE: tool <subcommand>"))
  }
}
