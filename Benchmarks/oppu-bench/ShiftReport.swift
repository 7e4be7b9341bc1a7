// What `oppu-bench shift` found, as JSON and as tables.

import Foundation
import RandomNumbers
import ShiftDetection
import TextTables

/// The figures of one run. `rows` are those of ``EngineReport``: each holds where ratio >= goal.
struct ShiftReport: Codable {
  struct Machine: Codable {
    let processor: String
    let threads: Int
    let memoryBytes: UInt64

    static var this: Machine {
      let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
      let name = lines.split(separator: "\n").first { $0.hasPrefix("model name") }?
        .split(separator: ":").last?.trimmingCharacters(in: .whitespaces)
      return Machine(
        processor: name ?? "unknown", threads: ProcessInfo.processInfo.activeProcessorCount,
        memoryBytes: ProcessInfo.processInfo.physicalMemory)
    }
  }

  /// Changes found in 100 + 100 values.
  struct Detection: Codable {
    let stream: String
    let detector: String
    let detected: Double
    let medianDelay: Double?
    /// Alarms before the change, per stream.
    let early: Double
  }

  let machine = Machine.this
  var versions: [String: String]
  let arl0: Double
  let seed: UInt64
  var rows: [EngineReport.Row] = []
  var detections: [Detection] = []

  private enum CodingKeys: CodingKey {
    case machine, versions, arl0, seed, rows, detections
  }

  init(versions: [String: String], arl0: Double, seed: UInt64) {
    self.versions = versions
    self.arl0 = arl0
    self.seed = seed
  }

  mutating func add(_ name: String, _ ours: Double, _ peer: Double?, goal: Double, unit: String) {
    rows.append(
      .init(
        name: name, ours: ours, peer: peer, ratio: peer.map { ours / $0 }, goal: goal, unit: unit))
  }

  /// At least so much.
  mutating func addGoal(_ name: String, _ ours: Double, goal: Double, unit: String) {
    rows.append(
      .init(name: name, ours: ours, peer: nil, ratio: ours / goal, goal: 1, unit: unit))
  }

  /// At most so much.
  mutating func addLimit(_ name: String, _ ours: Double, limit: Double, unit: String) {
    rows.append(
      .init(name: name, ours: ours, peer: nil, ratio: limit / ours, goal: 1, unit: unit))
  }

  /// Within a fifth of what is stated, either way.
  mutating func addRange(_ name: String, _ ours: Double, around stated: Double, alarms: Int) {
    rows.append(
      .init(
        name: name, ours: ours, peer: nil, ratio: min(ours / stated, stated / ours), goal: 1 / 1.2,
        unit: "events (\(alarms) alarms)"))
  }

  func table() -> String {
    func number(_ value: Double?) -> String {
      guard let value else { return "-" }
      return String(format: abs(value) < 10 ? "%.2f" : "%.0f", value)
    }
    let goals = TextTable<EngineReport.Row> { row in
      [
        Column(title: "what", value: row.name),
        Column(title: "ours", value: number(row.ours), align: .right),
        Column(title: "peer", value: number(row.peer), align: .right),
        Column(title: "unit", value: row.unit),
        Column(
          title: "ratio", value: row.ratio.map { String(format: "%.2f", $0) } ?? "-",
          align: .right),
        Column(title: "goal", value: String(format: "%.2f", row.goal), align: .right),
        Column(title: "", value: row.holds.map { $0 ? "holds" : "MISSED" } ?? "no peer"),
      ]
    }
    let changes = TextTable<Detection> { row in
      [
        Column(title: "100 + 100 values", value: row.stream),
        Column(title: "detector", value: row.detector),
        Column(title: "found", value: String(format: "%.1f %%", 100 * row.detected), align: .right),
        Column(title: "median delay", value: number(row.medianDelay), align: .right),
        Column(title: "early alarms", value: String(format: "%.4f", row.early), align: .right),
      ]
    }
    return [
      goals.string(for: rows),
      changes.string(for: detections),
    ].joined(separator: "\n\n")
  }

  func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }
}

/// Seeded values and observations.
struct SeededValues {
  private var generator: SplitMix64

  init(seed: UInt64) { generator = SplitMix64(seed: seed) }

  /// In 0 ..< 1.
  mutating func next() -> Double { Double(generator.next() >> 11) * 0x1p-53 }

  /// Box and Muller's.
  mutating func nextNormal() -> Double {
    (-2 * log(1 - next())).squareRoot() * cos(2 * .pi * next())
  }

  /// Words by Zipf's law.
  mutating func nextText(upTo words: Int) -> String {
    (0..<(2 + Int(next() * Double(words - 2)))).map { _ in "word\(Int(pow(3_000, next())))" }
      .joined(separator: " ")
  }

  mutating func observation(_ kind: String) -> Observation {
    let output: ObservedOutput =
      switch kind {
      case "labels": .label("a label of number \(Int(16 * next()))")
      case "ratings": .rating(Double(1 + Int(5 * next())))
      default: .text(nextText(upTo: 10))
      }
    return Observation(loss: exp(nextNormal()), output: output, input: nextText(upTo: 20))
  }
}
