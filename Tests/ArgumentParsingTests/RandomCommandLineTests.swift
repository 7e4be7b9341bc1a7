// Random command lines, held against a model that knows no more than a table.

import Foundation
import RandomNumbers
import Testing

@testable import ArgumentParsing

/// What one command of the table takes, as one would write it down by hand.
private struct Entry {
  enum Kind {
    case flag
    case text
    case number
    case decimal
    case list
    case choice([String])
  }

  let key: String
  let names: [String]
  let kind: Kind
  var isRequired = false
  /// Its value where it is not given.
  var missing = "nil"
}

private let common = [
  Entry(key: "config", names: ["--config"], kind: .text),
  Entry(key: "set", names: ["--set"], kind: .list, missing: "[]"),
  Entry(
    key: "shape", names: ["-s", "--shape"], kind: .choice(["circle", "square", "triangle"]),
    missing: "circle"),
  Entry(key: "secret", names: ["--secret"], kind: .number, missing: "0"),
]

private let table: [String: [Entry]] = [
  "draw": common + [
    Entry(key: "count", names: [], kind: .number, isRequired: true),
    Entry(key: "place", names: [], kind: .text),
    Entry(key: "prompt", names: ["-p", "--prompt"], kind: .text),
    Entry(key: "scale", names: ["--scale"], kind: .decimal, missing: "1.5"),
    Entry(key: "times", names: ["--times"], kind: .number, isRequired: true),
    Entry(key: "fill", names: ["-f", "--fill"], kind: .flag, missing: "false"),
    Entry(key: "verbose", names: ["-v", "--verbose"], kind: .flag, missing: "false"),
    Entry(key: "colour", names: ["--colour"], kind: .text),
  ],
  "items list": common + [Entry(key: "limit", names: ["--limit"], kind: .number, missing: "200")],
  "items add": [
    Entry(key: "numbers", names: [], kind: .list, isRequired: true),
    Entry(key: "label", names: ["--label"], kind: .list, missing: "[]"),
    Entry(key: "execute", names: ["--execute"], kind: .flag, missing: "false"),
  ],
]

/// What the model expects of a line.
private enum Outcome: Equatable {
  case values([String: String])
  /// Refused for this word.
  case refused(String)
  case help
}

/// Reads a line by the table alone.
private struct Model {
  var words: [String]

  func outcome() -> Outcome {
    var rest = words
    let asks = ["--help", "-h", "--version"]
    func first() -> Int? { rest.firstIndex { !asks.contains($0) } }
    var path = ""
    guard let command = first() else { return .help }
    switch rest[command] {
    case "draw": path = "draw"
    case "items":
      rest.remove(at: command)
      if let next = first() {
        if rest[next] == "help" { return help(rest, ["list", "add"]) }
        path = ["list", "add"].contains(rest[next]) ? "items " + rest[next] : "items list!"
        if !path.hasSuffix("!") { rest.remove(at: next) }
      } else {
        path = rest.isEmpty ? "items list!" : "help"
      }
    case "help": return help(rest, ["draw", "items", "quiet", "fail"])
    default: return rest[command].hasPrefix("-") ? ownOptions(rest) : .refused(rest[command])
    }
    if path == "draw" { rest.remove(at: command) }
    if path == "help" { return .help }
    let entries = table[path.replacingOccurrences(of: "!", with: "")] ?? []
    return read(rest, entries)
  }

  /// The program itself takes no words but requests for help.
  private func ownOptions(_ words: [String]) -> Outcome {
    let outcome = read(words, [])
    return outcome == .values([:]) ? .help : outcome
  }

  private func help(_ words: [String], _ names: [String]) -> Outcome {
    var names = names
    for word in words where !["help", "-h", "--help", "--man"].contains(word) {
      guard names.contains(word) else { return .refused(word) }
      names = word == "items" ? ["list", "add"] : []
    }
    return .help
  }

  private func isNumber(_ text: String) -> Bool {
    let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
    return !digits.isEmpty && digits.allSatisfy { "0123456789".contains($0) } && Int(text) != nil
  }

  private func isNumeric(_ entry: Entry?) -> Bool {
    switch entry?.kind {
    case .number, .decimal: true
    // The only positional list of the table is one of numbers.
    case .list: entry?.names.isEmpty ?? false
    default: false
    }
  }

  private func canBeValue(_ word: String, _ entry: Entry?, _ entries: [Entry]) -> Bool {
    if !word.hasPrefix("-") || word == "-" || word.hasPrefix("- ") { return true }
    let second = String(word.prefix(2).suffix(1))
    return isNumeric(entry) && ("0123456789".contains(second) || Double(word) != nil)
      && !entries.contains { $0.names.contains("-" + second) }
  }

  private func read(_ words: [String], _ entries: [Entry]) -> Outcome {
    let options = words.prefix { $0 != "--" }
    if options.contains(where: { ["--help", "-h", "--version"].contains($0) }) { return .help }
    var given: [String: [String]] = [:]
    var places = entries.filter(\.names.isEmpty)
    var index = 0
    var ended = false
    while index < words.count {
      let word = words[index]
      index += 1
      if ended || canBeValue(word, places.first, entries) {
        guard let place = places.first else { return .refused(word) }
        given[place.key, default: []].append(word)
        if case .list = place.kind {} else { places.removeFirst() }
      } else if word == "--" {
        ended = true
      } else if word.hasPrefix("--") {
        let name = String(word.prefix { $0 != "=" })
        guard let entry = entries.first(where: { $0.names.contains(name) }) else {
          return .refused(word)
        }
        if case .flag = entry.kind {
          if word.contains("=") { return .refused(word) }
          given[entry.key] = ["true"]
        } else if word.contains("=") {
          given[entry.key, default: []].append(String(word.dropFirst(name.count + 1)))
        } else {
          guard index < words.count, canBeValue(words[index], entry, entries) else {
            return .refused(name)
          }
          given[entry.key, default: []].append(words[index])
          index += 1
        }
      } else {
        var letters = Array(word.dropFirst())
        while !letters.isEmpty {
          let name = "-" + String(letters.removeFirst())
          guard let entry = entries.first(where: { $0.names.contains(name) }) else {
            return name == "-h" ? .help : .refused(word)
          }
          if case .flag = entry.kind {
            if letters.first == "=" { return .refused(word) }
            given[entry.key] = ["true"]
          } else {
            if letters.first == "=" {
              given[entry.key, default: []].append(String(letters.dropFirst()))
            } else if !letters.isEmpty {
              given[entry.key, default: []].append(String(letters))
            } else {
              guard index < words.count, canBeValue(words[index], entry, entries) else {
                return .refused(name)
              }
              given[entry.key, default: []].append(words[index])
              index += 1
            }
            letters = []
          }
        }
      }
    }
    return values(given, entries)
  }

  private func values(_ given: [String: [String]], _ entries: [Entry]) -> Outcome {
    var values: [String: String] = [:]
    for entry in entries {
      guard let words = given[entry.key] else {
        if entry.isRequired { return .refused(entry.names.last ?? "<\(entry.key)>") }
        values[entry.key] = entry.missing
        continue
      }
      for word in words {
        let isRight =
          switch entry.kind {
          case .flag, .text: true
          case .list: !entry.names.isEmpty || isNumber(word)
          case .number: isNumber(word)
          case .decimal: Float(word) != nil
          case .choice(let all): all.contains(word)
          }
        if !isRight { return .refused(word) }
      }
      switch entry.kind {
      case .list:
        let numbers = words.compactMap(Int.init)
        values[entry.key] = entry.names.isEmpty ? "\(numbers)" : "\(words)"
      case .number: values[entry.key] = "\(Int(words[words.count - 1]) ?? 0)"
      case .decimal: values[entry.key] = "\(Float(words[words.count - 1]) ?? 0)"
      default: values[entry.key] = words[words.count - 1]
      }
    }
    if values["config"] == "bad" { return .refused("bad") }
    if let scale = values["scale"].flatMap(Float.init), !(scale > 0) { return .refused("--scale") }
    return .values(values)
  }
}

@Suite struct RandomCommandLineTests {
  private static let pool = [
    "draw", "items", "list", "add", "help", "quite", "drwa", "lits", "--config", "--set", "-s",
    "--shape", "--secret", "-p", "--prompt", "--scale", "--times", "-f", "--fill", "-v",
    "--verbose", "--colour", "--limit", "--label", "--execute", "--shpae", "--tmies", "--verb",
    "-x", "--", "-", "---", "-=", "--=", "", " ", "=", "- milk", "-- milk", "-1", "-1.5", "-inf",
    "-nan", "-0x10", "-9", "-fv", "-fvp", "-pfv", "-fx", "-vs", "-ssquare", "-s=circle", "-h",
    "--help", "--version", "-fh", "-sh", "3", "007", "+4", "1e3", "nan", "inf", "1_000", "３",
    "99999999999999999999", "many", "circle", "square", "sqare", "bad", "a=b", "--config=bad",
    "--config=", "--set=a=b", "--shape=triangle", "--shape=", "--fill=true", "--times=4",
    "--times=-4", "--scale=0", "--scale=2.5", "--nothing=1", "日本語", "e\u{301}", "👩‍👩‍👧", "\u{1B}[31m",
    "\u{202E}x", "a\nb", "-é", "--é", "'", "\"", "$(x)", "*", "~",
  ]

  private func line(_ random: inout some RandomNumberGenerator) -> [String] {
    func word() -> String { Self.pool.randomElement(using: &random) ?? "" }
    var words: [String] =
      switch Int.random(in: 0..<8, using: &random) {
      case 0: []
      case 1: ["items"]
      case 2: ["items", "list", "--limit", "5", "-s", "square"]
      case 3: ["items", "add", "1", "-2", "--label", "x", "--execute"]
      case 4: ["draw", "3", "--times", "4"]
      case 5: ["draw", "--set", "a=b", "3", "place", "--times=4", "-fvp", "x", "--set=c"]
      case 6: ["draw", "--scale", "2.5", "--times", "-4", "--", "-3", "--place"]
      default: ["draw"]
      }
    for _ in 0..<Int.random(in: 0...4, using: &random) {
      let place = Int.random(in: 0...words.count, using: &random)
      switch Int.random(in: 0..<5, using: &random) {
      case 0 where place < words.count: words.remove(at: place)
      case 1 where place < words.count: words[place] = word()
      case 2 where place < words.count: words.insert(words[place], at: place)
      case 3 where place + 1 < words.count: words.swapAt(place, place + 1)
      default: words.insert(word(), at: place)
      }
    }
    return words
  }

  /// A parsed command's values, as the model writes them.
  private func values(_ command: any ParsableCommand) -> [String: String] {
    func show(_ options: CommonOptions) -> [String: String] {
      [
        "config": options.config ?? "nil", "set": "\(options.set)",
        "shape": options.shape.rawValue, "secret": "\(options.secret)",
      ]
    }
    switch command {
    case let draw as Draw:
      return show(draw.options).merging([
        "count": "\(draw.count)", "place": draw.place ?? "nil", "prompt": draw.prompt ?? "nil",
        "scale": "\(draw.scale)", "times": "\(draw.repetitions)", "fill": "\(draw.fill)",
        "verbose": "\(draw.verbose)", "colour": draw.colour ?? "nil",
      ]) { $1 }
    case let list as Items.List:
      return show(list.options).merging(["limit": "\(list.limit)"]) { $1 }
    case let add as Items.Add:
      return [
        "numbers": "\(add.numbers)", "label": "\(add.label)", "execute": "\(add.execute)",
      ]
    default: return [:]
    }
  }

  @Test("Of 100,000 random lines each means what the table says, or names the word that is wrong")
  func lines() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("random command lines: seed \(seed)")
    var random = SplitMix64(seed: seed)
    var counts = [0, 0, 0]
    for _ in 0..<100_000 {
      let words = line(&random)
      let expected = Model(words: words).outcome()
      do {
        let command = try Tool.parseAsRoot(words)
        // The program itself, run, shows its help.
        let found = command is Tool ? Outcome.help : .values(values(command))
        try #require(found == expected, "\(words), seed \(seed)")
        counts[0] += 1
      } catch let error as CommandError {
        guard case .refused(let word) = expected else {
          throw Disagreement(words: words, expected: expected, found: "\(error)", seed: seed)
        }
        // The usage around the sentence takes longer to make than the rest of the test.
        let text = counts[1] % 10 == 0 ? Tool.fullMessage(for: error) : "\(error)"
        // Of an option with a value it is the option that is unknown.
        let quote = error.underlying is UsageError ? "'" : ""
        let isNamed = [word, String(word.prefix { $0 != "=" })].contains {
          text.contains(quote + Spelling.harmless($0))
        }
        let isUsage = (error.underlying as? UsageError).map { $0.word == word } ?? true
        if !isNamed || !isUsage || Tool.exitCode(for: error) != .validationFailure {
          throw Disagreement(words: words, expected: expected, found: text, seed: seed)
        }
        counts[1] += 1
      } catch let error as CleanExit {
        guard expected == .help else {
          throw Disagreement(words: words, expected: expected, found: "\(error)", seed: seed)
        }
        counts[2] += 1
      }
    }
    print("accepted \(counts[0]), refused \(counts[1]), help \(counts[2])")
    #expect(counts.allSatisfy { $0 > 1_000 })
  }

  private struct Disagreement: Error {
    let words: [String]
    let expected: Outcome
    let found: String
    let seed: UInt64
  }
}
