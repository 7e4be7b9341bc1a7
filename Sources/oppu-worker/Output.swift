// Data on stdout: a table for people, JSON for programs.

import ArgumentParsing
import Foundation
import JSON
import Personalization
import ShiftDetection
import TextTables

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
  case text, json, jsonl
}

struct OutputOptions: ParsableArguments {
  @Option(
    name: [.customShort("o"), .long], help: "text (tables), json, or jsonl (one object a line).")
  var output: OutputFormat = .text

  /// One column of a table: its title and what it shows of a row.
  struct TableColumn<Row> {
    let title: String
    let value: (Row) -> String

    init(_ title: String, _ value: @escaping (Row) -> String) {
      self.title = title
      self.value = value
    }
  }

  /// Prints rows: all their fields as JSON, the columns as a table.
  func print<Row: Encodable>(
    _ rows: [Row], empty: String, columns: [TableColumn<Row>]
  ) throws {
    switch output {
    case .json: Swift.print(try Self.json(rows, pretty: true))
    case .jsonl: for row in rows { Swift.print(try Self.json(row, pretty: false)) }
    case .text:
      guard !rows.isEmpty else { return Swift.print(empty) }
      let table = TextTable<Row> { row in
        columns.map { Column(title: $0.title, value: $0.value(row)) }
      }
      Swift.print(table.string(for: rows, maximumWidth: terminalWidth()))
    }
  }

  /// Prints one thing: as JSON, or as lines of name and value.
  func print<Value: Encodable>(_ value: Value, lines: [(String, String)]) throws {
    switch output {
    case .json: Swift.print(try Self.json(value, pretty: true))
    case .jsonl: Swift.print(try Self.json(value, pretty: false))
    case .text:
      let width = lines.map(\.0.count).max() ?? 0
      for (name, text) in lines {
        // No value may look like a line of its own.
        let name = name.padding(toLength: width, withPad: " ", startingAt: 0)
        Swift.print("\(name)  \(Spelling.harmless(text))")
      }
    }
  }

  /// A value as JSON text, its fields named and complete as ``DocumentEncoder`` has them.
  static func json(_ value: some Encodable, pretty: Bool) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
      pretty
      ? [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      : [.sortedKeys, .withoutEscapingSlashes]
    return String(
      decoding: try encoder.encode(try DocumentEncoder.json(value)), as: UTF8.self)
  }
}

/// Short forms for tables.
enum Show {
  static func optional<T>(_ value: T?) -> String { value.map { "\($0)" } ?? "–" }

  static func loss(_ value: Double?) -> String { value.map { String(format: "%.3f", $0) } ?? "–" }

  /// A mean difference and its one-sided bound.
  static func bounded(_ difference: Double?, _ bound: Double?) -> String {
    guard let difference else { return "–" }
    return String(format: "%+.3f", difference)
      + (bound.map { String(format: ", at most %+.3f", $0) } ?? "")
  }

  /// A trial on live losses, in words.
  static func trial(_ trial: LiveTrial?) -> String {
    guard let trial, trial.events > 0 else { return "none yet" }
    return String(
      format: "%.3f on %d events, %.3f before (%@)", trial.meanLoss, trial.events,
      trial.meanLossBefore, trial.state.rawValue)
  }

  static func time(_ date: Date?) -> String {
    date.map { $0.formatted(.iso8601) } ?? "–"
  }

  static func bytes(_ count: Int64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(count) B" : String(format: "%.1f %@", value, units[unit])
  }

  /// The signals of a decision that alarm.
  static func alarms(_ signals: [Signal]) -> String {
    signals.filter(\.isAlarm).map(\.explanation).joined(separator: "; ")
  }

  /// A value as JSON on a line.
  static func line(_ value: some Encodable) throws -> String {
    try DocumentEncoder.json(value).canonical
  }

  /// A value's fields in words, by name.
  static func fields(_ value: some Encodable) throws -> [(String, String)] {
    (try DocumentEncoder.json(value).object ?? [:]).sorted { $0.key < $1.key }.map { key, value in
      (key.replacing("_", with: " "), value.plainText ?? value.canonical)
    }
  }
}
