// What is played and asked: the project's sample stream with its truth, or any file of events.

import Foundation
import JSON
import Personalization

/// A change of behaviour that the sample stream is known to have.
struct PlantedShift: Sendable {
  var stream: StreamName
  /// The first event of the new behaviour, counted from 1 within the stream.
  var ordinal: Int
  var description: String
}

/// A question that is asked twice.
struct TourQuestion: Sendable {
  var stream: StreamName
  var input: JSONValue
  /// What the user would say before and after the second part was played, where it is known.
  var expectedBefore: String?
  var expectedAfter: String?
}

/// Two parts of a stream of events, and the questions asked after each.
struct Scenario: Sendable {
  var first: [PlayedEvent]
  var second: [PlayedEvent]
  var questions: [TourQuestion]
  var shifts: [PlantedShift] = []
  /// Users who do not change, with what they do.
  var steady: [StreamName: String] = [:]
  /// Whether `shifts` and `steady` are known.
  var hasTruth = false

  var events: [PlayedEvent] { first + second }
  var streams: Set<StreamName> { Set(events.map(\.stream)) }

  // MARK: The sample stream

  private struct Truth: Decodable {
    struct Shift: Decodable {
      var userID: String
      var task: String
      var eventID: String
      var description: String

      enum CodingKeys: String, CodingKey {
        case task, description
        case userID = "user_id"
        case eventID = "event_id"
      }
    }
    struct Steady: Decodable {
      var userID: String
      var task: String
      var description: String

      enum CodingKeys: String, CodingKey {
        case task, description
        case userID = "user_id"
      }
    }
    var shifts: [Shift]
    var steady: [Steady]
  }

  private struct Requests: Decodable {
    struct Request: Decodable {
      var userID: String
      var task: String
      var input: JSONValue
      var expectedBefore: String?
      var expectedAfter: String?

      enum CodingKeys: String, CodingKey {
        case task, input
        case userID = "user_id"
        case expectedBefore = "expected_before"
        case expectedAfter = "expected_after"
      }
    }
    var requests: [Request]
  }

  /// The sample stream in a folder: `events.jsonl`, `truth.json`, `requests.json`. The first part
  /// ends before the planted shifts, for users who do not shift at the same share of their events.
  ///
  /// - Throws: `EventFileError`.
  static func sample(folder: URL, catalogue: TaskCatalogue) throws -> Scenario {
    let eventsPath = folder.appendingPathComponent("events.jsonl").path
    let events = try EventFile.read(eventsPath, catalogue: catalogue)
    let truth: Truth = try decode(folder.appendingPathComponent("truth.json"))
    let requests: Requests = try decode(folder.appendingPathComponent("requests.json"))
    let streams = Dictionary(grouping: events, by: \.stream)
    let shifts = try truth.shifts.map { shift in
      let stream = StreamName(user: shift.userID, task: shift.task)
      guard let index = streams[stream]?.firstIndex(where: { $0.eventID == shift.eventID }) else {
        throw EventFileError(
          file: eventsPath, problem: "the truth names \(shift.eventID), which is not there")
      }
      return PlantedShift(stream: stream, ordinal: index + 1, description: shift.description)
    }
    let shares = shifts.map { Double($0.ordinal - 1) / Double(streams[$0.stream]?.count ?? 1) }
    let share = shares.isEmpty ? 0.5 : shares.reduce(0, +) / Double(shares.count)
    let planted = Dictionary(
      shifts.map { ($0.stream, $0.ordinal - 1) }, uniquingKeysWith: { first, _ in first })
    var scenario = split(events) { stream, count in
      planted[stream] ?? Int((share * Double(count)).rounded())
    }
    scenario.shifts = shifts
    scenario.steady = Dictionary(
      truth.steady.map { (StreamName(user: $0.userID, task: $0.task), $0.description) },
      uniquingKeysWith: { first, _ in first })
    scenario.hasTruth = true
    scenario.questions = requests.requests.map {
      TourQuestion(
        stream: StreamName(user: $0.userID, task: $0.task), input: $0.input,
        expectedBefore: $0.expectedBefore, expectedAfter: $0.expectedAfter)
    }
    return scenario
  }

  private static func decode<T: Decodable>(_ file: URL) throws -> T {
    guard let data = FileManager.default.contents(atPath: file.path) else {
      throw EventFileError(file: file.path, problem: "the file cannot be read")
    }
    do { return try JSONDecoder().decode(T.self, from: data) } catch {
      throw EventFileError(file: file.path, problem: "\(error)")
    }
  }

  // MARK: Any file

  /// A file of events. The last event of every stream is not played: its input is asked, and its
  /// output is what the user really said. Of the rest the first part is each stream's older half.
  ///
  /// - Throws: `EventFileError`.
  static func file(_ path: String, catalogue: TaskCatalogue) throws -> Scenario {
    var events = try EventFile.read(path, catalogue: catalogue)
    var questions: [TourQuestion] = []
    for (stream, own) in Dictionary(grouping: events, by: \.stream).sorted(by: { $0.key < $1.key })
    where own.count > 1 {
      guard let last = own.last, let input = last.input, last.output != nil else { continue }
      questions.append(TourQuestion(stream: stream, input: input, expectedAfter: last.output))
    }
    for question in questions {
      if let index = events.lastIndex(where: { $0.stream == question.stream }) {
        events.remove(at: index)
      }
    }
    guard !events.isEmpty else {
      throw EventFileError(file: path, problem: "a stream needs at least two events to be played")
    }
    var scenario = split(events) { _, count in (count + 1) / 2 }
    scenario.questions = questions
    return scenario
  }

  /// Splits every stream after as many events as `count` says, keeping the order of all.
  private static func split(
    _ events: [PlayedEvent], after count: (StreamName, Int) -> Int
  ) -> Scenario {
    let limits = Dictionary(grouping: events, by: \.stream).map { ($0, count($0, $1.count)) }
    let limit = Dictionary(limits, uniquingKeysWith: { first, _ in first })
    var seen: [StreamName: Int] = [:]
    var scenario = Scenario(first: [], second: [], questions: [])
    for event in events {
      seen[event.stream, default: 0] += 1
      if seen[event.stream, default: 0] <= limit[event.stream, default: 0] {
        scenario.first.append(event)
      } else {
        scenario.second.append(event)
      }
    }
    return scenario
  }
}
