// The real program's command line: random words against what its commands declare.

import ArgumentParsing
import RandomNumbers
import Testing

@testable import oppu_worker

@Suite("The program's command line") struct RandomCommandLineTests {
  /// A command that does something, with what it declares.
  private struct Command {
    let path: [String]
    let arguments: [DeclaredArgument]

    var names: [String] { arguments.flatMap(\.names) }
  }

  private static let commands: [Command] = CommandInterface(OPPUWorker.self).tree
    .filter(\.subcommands.isEmpty)
    .map { Command(path: Array($0.path.dropFirst()), arguments: $0.arguments) }

  /// A word that a value of the argument can be, as far as its declaration tells.
  private func value(of argument: DeclaredArgument, _ random: inout SplitMix64) -> String {
    if let choice = argument.choices.randomElement(using: &random) { return choice }
    if argument.isNumber { return "\(Int.random(in: 1...120, using: &random))" }
    return ["kim", "a=1", "2026-01-31T09:30:00Z", "- milk", "ünïcödé 🎬", "x y"]
      .randomElement(using: &random) ?? ""
  }

  /// Words that give everything that must be given and some of what can be.
  private func line(for command: Command, _ random: inout SplitMix64) -> [String] {
    var words = command.path
    for argument in command.arguments
    where argument.isRequired || Int.random(in: 0..<6, using: &random) == 0 {
      let name = argument.names.randomElement(using: &random)
      switch argument.kind {
      case .flag: words.append(name ?? "")
      case .positional: words.append(value(of: argument, &random))
      case .option:
        let value = value(of: argument, &random)
        if let name, name.hasPrefix("--"), Bool.random(using: &random) {
          words.append("\(name)=\(value)")
        } else {
          words += [name ?? "", value]
        }
      }
    }
    return words
  }

  private func refusal(of words: [String]) -> (any Error)? {
    do {
      _ = try OPPUWorker.parseAsRoot(words)
      return nil
    } catch let error as CommandError { return error.underlying } catch { return error }
  }

  @Test("every one of 62 commands is there, with options of each kind")
  func tree() {
    #expect(CommandInterface(OPPUWorker.self).tree.count == 63)
    #expect(Self.commands.flatMap(\.arguments).contains { $0.kind == .flag })
    #expect(Self.commands.flatMap(\.arguments).count > 168)
  }

  @Test("of 100,000 random lines every refusal names the word that is wrong")
  func random() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("command lines: seed \(seed)")
    var random = SplitMix64(seed: seed)
    var taken = 0
    for _ in 0..<100_000 {
      let command = try #require(Self.commands.randomElement(using: &random))
      var words = line(for: command, &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0:
        // A misspelt option.
        let name = try #require(
          (command.names + ["--execute"]).randomElement(using: &random))
        let wrong = "--" + name.drop { $0 == "-" } + "qz"
        words.insert(wrong, at: command.path.count)
        let error = try #require(refusal(of: words) as? UsageError, "\(words)")
        #expect(error.reason == .unknownOption && error.word == wrong, "\(words): \(error)")
        #expect("\(error)".contains("'\(wrong)'"), "\(error)")
      case 1:
        // A misspelt command.
        let place = Int.random(in: 0..<command.path.count, using: &random)
        words[place] += "qz"
        let error = try #require(refusal(of: words) as? UsageError, "\(words)")
        #expect(error.word == words[place], "\(words): \(error)")
      case 2:
        // A value of the wrong kind.
        guard
          let argument = command.arguments.filter({
            $0.kind == .option && ($0.isNumber || !$0.choices.isEmpty)
          }).randomElement(using: &random), let name = argument.preferredName
        else { continue }
        words.insert(contentsOf: [name, "n0ne"], at: command.path.count)
        let error = try #require(refusal(of: words) as? UsageError, "\(words)")
        #expect(error.reason == .invalidValue && error.word == "n0ne", "\(words): \(error)")
        #expect("\(error)".contains(name), "\(error)")
      case 3:
        // An option at the end, without its value.
        guard
          let argument = command.arguments.filter({ $0.kind == .option })
            .randomElement(using: &random), let name = argument.preferredName
        else { continue }
        let error = try #require(refusal(of: words + [name]) as? UsageError, "\(words)")
        #expect(error.reason == .missingValue && error.word == name, "\(words): \(error)")
      case 4:
        // Any words at all: whatever is refused must be one of them, or a name that is missing.
        words += (0..<Int.random(in: 0..<4, using: &random)).map { _ in
          let letters = Array("-=xo\u{1B}é \"'\\$")
          return String(
            (0..<Int.random(in: 0..<6, using: &random)).map { _ in
              letters.randomElement(using: &random) ?? "x"
            })
        }
        words.shuffle(using: &random)
        guard let error = refusal(of: words) as? UsageError else { continue }
        let isMissing = error.reason == .missingArgument || error.reason == .missingValue
        // The value of `-o$` is the end of a word.
        let isNamed = words.contains {
          $0 == error.word || $0.hasPrefix("-") && $0.hasSuffix(error.word)
        }
        #expect(isMissing || isNamed, "\(words): \(error)")
        #expect(!"\(error)".contains("\u{1B}"))
      default:
        // What is declared is taken; what does not go together may still be refused, in words of its own.
        if let error = refusal(of: words) {
          #expect(error is ValidationError, "\(words): \(error)")
        } else {
          taken += 1
        }
      }
    }
    #expect(taken > 5_000)
  }
}
