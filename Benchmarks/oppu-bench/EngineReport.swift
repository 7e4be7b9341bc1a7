// What `oppu-bench engine` found, as JSON and as a table.

import Foundation
import TextTables

/// The figures of one run on one machine.
struct EngineReport: Codable {
  /// One line of the table of goals.
  struct Row: Codable {
    let name: String
    let ours: Double
    /// The peer's figure; nil where it is not installed.
    let peer: Double?
    /// Larger is better, whatever the unit: the row holds where ratio >= goal.
    let ratio: Double?
    let goal: Double
    let unit: String

    var holds: Bool? { ratio.map { $0 >= goal } }
  }

  struct Machine: Codable {
    let processor: String
    let threads: Int
    let memoryBytes: UInt64
    let matrixKernels: String
    let int8Kernels: String
  }

  let machine: Machine
  var versions: [String: String]
  var rows: [Row] = []

  /// A row of two rates.
  mutating func add(_ name: String, _ ours: Double, _ peer: Double?, goal: Double, unit: String) {
    rows.append(
      Row(
        name: name, ours: ours, peer: peer, ratio: peer.map { ours / $0 }, goal: goal, unit: unit))
  }

  /// A row of a size and what it is held against; less is better.
  mutating func addSize(_ name: String, _ ours: Double, against: Double, goal: Double) {
    let unit = 1_048_576.0
    rows.append(
      Row(
        name: name, ours: ours / unit, peer: against / unit, ratio: against / ours, goal: goal,
        unit: "MiB"))
  }

  func table() -> String {
    func number(_ value: Double?) -> String {
      guard let value else { return "-" }
      return String(format: abs(value) < 10 ? "%.2f" : "%.0f", value)
    }
    let table = TextTable<Row> { row in
      [
        Column(title: "what", value: row.name),
        Column(title: "ours", value: number(row.ours), align: .right),
        Column(title: "peer", value: number(row.peer), align: .right),
        Column(title: "unit", value: row.unit),
        Column(
          title: "ratio", value: row.ratio.map { String(format: "%.2f", $0) } ?? "-",
          align: .right),
        Column(title: "goal", value: String(format: "%.2f", row.goal), align: .right),
        Column(
          title: "", value: row.holds.map { $0 ? "holds" : "MISSED" } ?? "no peer"),
      ]
    }
    return table.string(for: rows)
  }

  func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }
}
