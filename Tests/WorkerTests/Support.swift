// What the tests of this module share: messages, and the repository's files.

import Foundation
import JSON
import KafkaClient
import Personalization
import Storage
import TestSupport

@testable import Worker

enum Repository {
  static let root = Paths.root

  static func json(_ path: String) throws -> JSONValue {
    try JSONDecoder().decode(
      JSONValue.self, from: Data(contentsOf: root.appendingPathComponent(path)))
  }

  static func lines(_ path: String) throws -> [String] {
    try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
      .split(separator: "\n").map(String.init)
  }
}

/// The clock of these tests: 2026-02-01.
let now = Date(timeIntervalSince1970: 1_769_904_000)

/// A message as Kafka would hand it over.
func message(
  _ value: String?, key: String? = "kim", headers: [(String, String)] = [],
  topic: String = "user-behavior", partition: Int32 = 3, offset: Int64 = 41,
  timestamp: Date? = Date(timeIntervalSince1970: 1_769_850_000)
) -> KafkaMessage {
  KafkaMessage(
    topic: topic, partition: partition, offset: offset, key: key.map { Data($0.utf8) },
    value: value.map { Data($0.utf8) },
    headers: headers.map { KafkaHeader(key: $0.0, value: $0.1) }, timestamp: timestamp)
}

/// JSON text of an object.
func text(_ fields: [String: JSONValue]) -> String { JSONValue.object(fields).canonical }

/// A valid event of the task film_tag, with some fields set or (nil) taken out.
func filmTag(_ changes: [String: JSONValue?] = [:]) -> String {
  var fields: [String: JSONValue] = [
    "event_id": "e-1", "user_id": "kim", "task": "film_tag",
    "occurred_at": "2026-01-31T09:30:00Z", "input": ["film": "The Paper Harbour (1994)"],
    "output": "nineties",
  ]
  for (name, value) in changes { fields[name] = value }
  return text(fields)
}

/// The event in a message, or the error that it is refused with.
func event(_ message: KafkaMessage) throws -> IncomingEvent {
  switch try BehaviorEvent(message, catalogue: .builtIn, now: WorkerTests.now) {
  case .record(let event): return event
  case .feedback(let feedback): return feedback.event
  case .erase(let userID, _): throw MessageError(.failed, "this erases \(userID)")
  }
}

func event(_ value: String) throws -> IncomingEvent { try event(message(value)) }

/// The error that a message is refused with; nil where it is taken.
func refusal(_ work: () throws -> Void) -> MessageError? {
  do {
    try work()
    return nil
  } catch {
    return error as? MessageError ?? MessageError(.failed, "\(error)")
  }
}
