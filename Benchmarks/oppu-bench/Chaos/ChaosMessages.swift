// What applications write in a trial, message by message.

import Foundation
import JSON
import KafkaClient
import Personalization
import Worker

/// Makes events of users who change their minds, messages that nobody can take, and requests of every kind.
struct ChaosMessages: Sendable {
  static let replyHeader = "kafka_correlationId"
  /// How topics begin that are not there for workers.
  static let unknownTopics = "nobodys-"

  let topics: WorkerConfiguration.Kafka

  func message(
    _ topic: String, key: String, _ value: String, at time: Date, headers: [KafkaHeader] = []
  ) -> OutgoingMessage {
    OutgoingMessage(
      topic: topic, key: Data(key.utf8), value: Data(value.utf8), headers: headers, timestamp: time)
  }

  // MARK: Events

  private static let films = [
    "Paper Harbour", "Winter Bridge", "Distant Piano", "Silent Orchard", "Broken Compass",
    "Golden Staircase", "Last Ferry", "Hidden Lantern",
  ]

  static func eventID(_ user: String, _ number: Int) -> String { "\(user)#\(number)" }

  /// By mood, then by era, changing every forty events.
  /// - Parameter reply: an answer that the event is feedback on.
  func event(_ number: Int, of user: String, at time: Date, feedbackOn reply: JSONValue?)
    -> OutgoingMessage
  {
    let film = Self.films[number % Self.films.count]
    let year = 1950 + (number * 7) % 60
    let mood = ["funny", "sad", "tense"][number % Self.films.count % 3]
    let era = year < 1965 ? "fifties" : year < 1985 ? "seventies" : "nineties"
    var fields: [String: JSONValue] = [
      "event_id": .string(Self.eventID(user, number)), "user_id": .string(user),
      "task": "film_tag", "occurred_at": .string(time.formatted(.iso8601)),
      "input": ["film": .string("The \(film) (\(year)): \(mood) \u{1B}[31m\(number)")],
      "output": .string(number / 40 % 2 == 0 ? mood : era),
    ]
    if let reply {
      // Complete in itself, for the answer may not be on record any more.
      fields["kind"] = "feedback"
      fields["request_id"] = reply["request_id"]
      fields["feedback"] = "edited"
    }
    return message(topics.behaviorTopic, key: user, JSONValue.object(fields).canonical, at: time)
  }

  /// - Parameter kind: of what is wrong with it, from 0 to 4.
  func poison(_ id: String, kind: Int, key: String, at time: Date) -> OutgoingMessage {
    let value =
      switch kind {
      case 0: "{\"event_id\": \"\(id)\""
      case 1: "{\"event_id\": \"\(id)\", \"user_id\": \"x\", \"task\": \"nobody's\", \"input\": {}}"
      case 2:
        #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": "a"}, "z": 1e999}"#
      case 3:
        #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": "a\u0000"}}"#
      default:
        #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": 7, "film": 8}}"#
      }
    return message(topics.behaviorTopic, key: key, value, at: time)
  }

  // MARK: Requests

  /// - Parameters:
  ///   - number: of the request, from which its content is made.
  ///   - key: of the message, the user by default.
  func request(_ request: ChaosLedger.Request, number: Int, key: String? = nil) -> OutgoingMessage {
    var options: [String: JSONValue] = [
      "deadline_ms": .number(Double(Int(request.deadline / .milliseconds(1))))
    ]
    switch request.kind {
    case .retrieval: options["retrieve"] = 4
    case .longHistory: options["retrieve"] = 1
    case .text: options["max_tokens"] = .number(Double(1 + number % 24))
    case .longAnswer:
      options["max_tokens"] = 256
      options["temperature"] = 2
    default: break
    }
    let film = Self.films[number % Self.films.count]
    let isText = request.kind == .text || request.kind == .longAnswer
    let fields: [String: JSONValue] = [
      "request_id": .string(request.id), "user_id": .string(request.user),
      "task": request.kind == .unknownTask ? "nobody's" : isText ? "email_subject" : "film_tag",
      "input": isText
        ? ["message": .string("The \(film) sails at noon on Tuesday, bring your papers.")]
        : ["film": .string("The \(film) (1994): two thieves lose a suitcase")],
      "options": .object(options),
    ]
    var headers = [KafkaHeader(key: Self.replyHeader, value: request.id)]
    switch request.kind {
    case .unknownTopic:
      // Allowed by its name, and asked for for the first time.
      headers.append(
        KafkaHeader(
          key: "kafka_replyTopic", value: "\(Self.unknownTopics)\(request.id)-replies"))
    case .forbiddenTopic:
      headers.append(KafkaHeader(key: "kafka_replyTopic", value: topics.behaviorTopic))
    default: break
    }
    let value = JSONValue.object(fields).canonical
    return message(
      topics.requestTopic, key: key ?? request.user,
      request.kind == .damaged ? String(value.dropLast(2)) : value, at: request.sentAt,
      headers: headers)
  }
}
