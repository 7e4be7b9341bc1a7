// A message of the topic `user-behavior`, checked at the border.

import Foundation
import KafkaClient
import Personalization
import Storage

/// What one message of the behaviour topic asks for.
public enum BehaviorEvent: Sendable {
  case record(IncomingEvent)
  case erase(userID: String)

  static let maximumIdentifierBytes = 128
  static let maximumUserBytes = 256
  private static let ownFields: Set<String> = [
    "event_id", "user_id", "task", "occurred_at", "input", "output", "kind", "request_id",
  ]

  /// Reads and checks a message.
  /// - Throws: ``MessageError`` with a sentence for the dead letter.
  public init(_ message: KafkaMessage, catalogue: TaskCatalogue) throws {
    guard message.value != nil else {
      guard let userID = message.keyText, userID.utf8.count <= Self.maximumUserBytes else {
        throw MessageError(
          .invalidMessage,
          "a message without a value erases the user in its key, but the key is no user id")
      }
      self = .erase(userID: userID)
      return
    }
    let envelope = try Envelope(message)
    let userID = try envelope.requiredText(
      "user_id", otherwise: envelope.subject ?? message.keyText, maximum: Self.maximumUserBytes)
    let kind = try envelope.text("kind") ?? "interaction"
    switch kind {
    case "erase": self = .erase(userID: userID)
    case "interaction", "feedback":
      self = .record(
        try Self.event(envelope, kind: kind, userID: userID, of: message, catalogue: catalogue))
    default:
      throw MessageError(
        .invalidMessage,
        "\"kind\" must be interaction, feedback or erase, found \"\(kind.prefix(40))\"")
    }
  }

  private static func event(
    _ envelope: Envelope, kind: String, userID: String, of message: KafkaMessage,
    catalogue: TaskCatalogue
  ) throws -> IncomingEvent {
    let taskName = try envelope.requiredText("task", maximum: 128)
    guard let task = catalogue[taskName] else {
      throw MessageError.unknownTask(taskName, in: catalogue)
    }
    guard case .object(let input)? = envelope.fields["input"] else {
      let found = envelope.fields["input"]?.kindName ?? "nothing"
      throw MessageError(.invalidMessage, "\"input\" must be an object, found \(found)")
    }
    var output = envelope.fields["output"]
    if output?.isNull == true { output = nil }
    let canonicalOutput: String?
    do {
      canonicalOutput = try task.validate(input: .object(input), output: output).output
    } catch let error as TaskContentError {
      throw MessageError(.invalidInput, error.description)
    }
    let extra = envelope.fields.filter { !ownFields.contains($0.key) }
    // A retried produce of the same record has another offset, so producers that retry by themselves
    // should set event_id; without one the place in the topic is the identity.
    let place = "\(message.topic)-\(message.partition)-\(message.offset)"
    return IncomingEvent(
      eventID: try envelope.requiredText(
        "event_id", otherwise: envelope.identifier ?? place, maximum: maximumIdentifierBytes),
      stream: Storage.Stream(userID: userID, task: task.name), kind: kind,
      occurredAt: try occurredAt(envelope, message), input: .object(input),
      output: canonicalOutput, requestID: try envelope.text("request_id"),
      extra: extra.isEmpty ? nil : .object(extra), offset: message.offset)
  }

  private static func occurredAt(_ envelope: Envelope, _ message: KafkaMessage) throws -> Date {
    guard let text = try envelope.text("occurred_at") ?? envelope.time else {
      return message.timestamp ?? Date()
    }
    guard let date = Timestamps.parse(text) else {
      throw MessageError(
        .invalidMessage,
        "\"occurred_at\" must be an RFC 3339 time such as 2026-01-31T09:30:00Z, found \"\(text.prefix(60))\""
      )
    }
    return date
  }
}

extension MessageError {
  static func unknownTask(_ name: String, in catalogue: TaskCatalogue) -> MessageError {
    let known = catalogue.names.joined(separator: ", ")
    return MessageError(
      .unknownTask, "there is no task \"\(name)\" in the catalogue; it has \(known)")
  }
}
