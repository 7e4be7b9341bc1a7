// A file of behaviour events: one JSON object a line, as applications produce them.

import Foundation
import JSON
import Personalization

/// A user's events for one task.
struct StreamName: Hashable, Comparable, CustomStringConvertible, Sendable {
  var user: String
  var task: String
  var description: String { "\(user)/\(task)" }

  static func < (first: StreamName, second: StreamName) -> Bool {
    (first.task, first.user) < (second.task, second.user)
  }
}

/// One event of the file; `line` is what is sent, byte for byte.
struct PlayedEvent: Sendable {
  var stream: StreamName
  var eventID: String?
  var input: JSONValue?
  /// What the user chose or wrote, as words.
  var output: String?
  var line: Data
}

/// A file that cannot be played.
struct EventFileError: Error, CustomStringConvertible, LocalizedError {
  var file: String
  var line: Int?
  var problem: String

  var description: String { file + (line.map { ", line \($0)" } ?? "") + ": " + problem }
  var errorDescription: String? { description }
}

enum EventFile {
  /// Reads a file of events in the order in which they happened.
  ///
  /// Only what playing needs is checked here; whether an event is a good one is for the worker to
  /// say.
  /// - Throws: `EventFileError` naming file, line and problem.
  static func read(_ path: String, catalogue: TaskCatalogue) throws -> [PlayedEvent] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw EventFileError(file: path, line: nil, problem: "the file cannot be read")
    }
    var events: [(time: Date?, event: PlayedEvent)] = []
    let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() {
      if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) { continue }
      do {
        events.append(try read(Data(line), catalogue: catalogue))
      } catch let problem as Problem {
        throw EventFileError(file: path, line: index + 1, problem: problem.text)
      }
    }
    guard !events.isEmpty else {
      throw EventFileError(file: path, line: nil, problem: "there are no events in it")
    }
    // Without times the order of the file is the order of the events.
    guard events.allSatisfy({ $0.time != nil }) else { return events.map(\.event) }
    return events.enumerated().sorted {
      ($0.element.time ?? .distantPast, $0.offset) < ($1.element.time ?? .distantPast, $1.offset)
    }.map(\.element.event)
  }

  private struct Problem: Error { var text: String }

  private static func read(
    _ line: Data, catalogue: TaskCatalogue
  ) throws -> (Date?, PlayedEvent) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: line), value.object != nil
    else { throw Problem(text: "expected a behaviour event as one JSON object") }
    guard let user = value["user_id"]?.string, !user.isEmpty else {
      throw Problem(text: "\"user_id\" must be a text that is not empty")
    }
    guard let task = value["task"]?.string else {
      throw Problem(text: "\"task\" must be the name of a task")
    }
    do { _ = try catalogue.task(named: task) } catch {
      throw Problem(text: "\(error) (--tasks FILE)")
    }
    if value["kind"]?.string == "erase" {
      throw Problem(text: "the demo counts what is stored, so it plays no erasures")
    }
    let event = PlayedEvent(
      stream: StreamName(user: user, task: task), eventID: value["event_id"]?.string,
      input: value["input"], output: value["output"]?.plainText, line: line)
    return (value["occurred_at"]?.string.flatMap(time), event)
  }

  private static func time(_ text: String) -> Date? {
    (try? Date(text, strategy: .iso8601))
      ?? (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
  }
}
