// A message of the topic `user-behavior`, checked at the border.

import Foundation
import JSON
import KafkaClient
import Personalization
import Storage

/// What one message of the behaviour topic asks for.
public enum BehaviorEvent: Sendable {
  case record(IncomingEvent)
  /// What the user thought of an answer; becomes an event with what the answer's record says.
  case feedback(Feedback)
  /// - Parameter order: when an operator erased the user, where that is what the message tells.
  case erase(userID: String, order: Date? = nil)

  /// A header of messages without a value that tell of an operator's erasure: its time, in milliseconds since 1970.
  static let orderHeader = "oppu-erased-before"

  /// A header of messages that come from a dead letter: where they stood first, which names an event without an id.
  static let placeHeader = "oppu-original-place"

  /// The id of an event without one: its place in the topic. A topic that was made anew has other messages in the
  /// same places.
  static func place(topic: String, partition: Int32, offset: Int64, logNumber: Int64) -> String {
    "\(topic)-\(partition)-\(offset)" + (logNumber > 0 ? ".\(logNumber)" : "")
  }

  static let maximumIdentifierBytes = 128
  static let maximumUserBytes = 256

  /// Reads and checks one message.
  /// - Throws: ``MessageError`` with a sentence for the dead letter.
  public init(_ message: KafkaMessage, catalogue: TaskCatalogue, now: Date = Date()) throws {
    var decoder = EventDecoder(catalogue: catalogue)
    self = try decoder.decode(message, now: now)
  }
}

/// Feedback that has to be joined to what was answered.
public struct Feedback: Sendable {
  /// What the user said of an answer.
  public enum Verdict: String, Sendable, CaseIterable {
    /// The answer was right.
    case accepted
    /// The user wrote something else, which is the output.
    case edited
    /// The answer was wrong, and nobody said what is right: never trained on.
    case rejected
  }

  /// The event as far as the message tells it: without a task of its own the stream's task is empty, without an
  /// input of its own it is `{}`; never an output.
  public var event: IncomingEvent
  /// The request whose answer it is about.
  public let requestID: String
  /// Nil: an output that is the answer's is an acceptance, another one an edit.
  public let verdict: Verdict?
  /// What the user wrote, not checked by a task yet.
  public let output: JSONValue?
  /// Whether the message has an input of its own.
  public let hasInput: Bool
}

/// When an event may have happened.
public struct EventTimes: Sendable {
  /// Tolerated lead of a sender's clock.
  public var future: TimeInterval = 86_400
  /// 1990-01-01T00:00:00Z: earlier times are clocks that were never set.
  public var oldest = Date(timeIntervalSince1970: 631_152_000)

  public init() {}
}

/// Reads one message after another.
public struct EventDecoder: Sendable {
  private struct KnownTask: Sendable {
    let definition: TaskDefinition
    let check: QuickCheck
  }

  private let catalogue: TaskCatalogue
  private let tasks: [String: KnownTask]
  private let times: EventTimes
  let logNumber: Int64
  private var reader = JSONReader()

  /// - Parameter logNumber: how many topics there were before this one under its name; derived event ids differ
  ///   between them.
  public init(
    catalogue: TaskCatalogue, times: EventTimes = EventTimes(), logNumber: Int64 = 0
  ) {
    self.catalogue = catalogue
    self.times = times
    self.logNumber = logNumber
    tasks = Dictionary(
      catalogue.tasks.map { ($0.name, KnownTask(definition: $0, check: QuickCheck($0))) },
      uniquingKeysWith: { first, _ in first })
  }

  /// Reads and checks a message.
  /// - Throws: ``MessageError`` with a sentence for the dead letter.
  public mutating func decode(_ message: KafkaMessage, now: Date) throws -> BehaviorEvent {
    guard message.value != nil else {
      guard let userID = message.keyText, userID.utf8.count <= BehaviorEvent.maximumUserBytes else {
        throw MessageError(
          .invalidMessage,
          "a message without a value erases the user in its key, but the key is no user id")
      }
      return .erase(userID: userID, order: message.date(in: BehaviorEvent.orderHeader))
    }
    return try CloudEvent.read(message, with: &reader) {
      [tasks, catalogue, times, logNumber] view, cloud in
      try EventFields(view, logNumber: logNumber).event(
        of: message, cloud: cloud, times: times, now: now,
        task: { name in
          guard let task = tasks[name] else {
            throw MessageError.unknownTask(name, in: catalogue)
          }
          return (task.definition, task.check)
        })
    }
  }
}

/// The members of an event's object, each in its place.
private struct EventFields {
  private var eventID: JSONView?
  private var userID: JSONView?
  private var task: JSONView?
  private var occurredAt: JSONView?
  private var input: JSONView?
  private var output: JSONView?
  private var kind: JSONView?
  private var requestID: JSONView?
  private var feedback: JSONView?
  /// `"name":value,"name":value` of what the contract does not know.
  private var extra: [UInt8] = []
  private let logNumber: Int64

  init(_ object: JSONView, logNumber: Int64) {
    self.logNumber = logNumber
    object.forEachMember { name, value in
      if name.isName("event_id") {
        eventID = value
      } else if name.isName("user_id") {
        userID = value
      } else if name.isName("task") {
        task = value
      } else if name.isName("occurred_at") {
        occurredAt = value
      } else if name.isName("input") {
        input = value
      } else if name.isName("output") {
        output = value
      } else if name.isName("kind") {
        kind = value
      } else if name.isName("request_id") {
        requestID = value
      } else if name.isName("feedback") {
        feedback = value
      } else {
        if !extra.isEmpty { extra.append(UInt8(ascii: ",")) }
        extra.append(contentsOf: name.raw)
        extra.append(UInt8(ascii: ":"))
        extra.append(contentsOf: value.raw)
      }
    }
  }

  typealias TaskLookup = (String) throws -> (TaskDefinition, QuickCheck)

  func event(
    of message: KafkaMessage, cloud: CloudEvent, times: EventTimes, now: Date, task: TaskLookup
  ) throws -> BehaviorEvent {
    let userID = try Envelope.required(
      try Self.text(self.userID, "user_id") ?? cloud.subject ?? message.keyText, "user_id",
      maximum: BehaviorEvent.maximumUserBytes)
    guard let kind, !kind.isNull, !kind.isName("interaction") else {
      return .record(
        try interaction(of: message, userID: userID, cloud, times, now: now, task: task))
    }
    if kind.isName("erase") { return .erase(userID: userID) }
    if kind.isName("feedback") {
      return try feedback(of: message, userID: userID, cloud, times, now: now, task: task)
    }
    let found = try Self.text(kind, "kind") ?? ""
    throw MessageError(
      .invalidMessage,
      "\"kind\" must be interaction, feedback or erase, found \"\(found.prefix(40))\"")
  }

  private func interaction(
    of message: KafkaMessage, userID: String, _ cloud: CloudEvent, _ times: EventTimes, now: Date,
    task: TaskLookup
  ) throws -> IncomingEvent {
    let (definition, check) = try task(try taskName())
    guard let input, input.isObject else { throw noInput() }
    let canonicalOutput: String?
    switch check.check(input: input, output: output) {
    case .taken(let output): canonicalOutput = output
    case .unclear: canonicalOutput = try Self.validated(definition, input.value, output?.value)
    }
    return IncomingEvent(
      eventID: try identifier(message, cloud),
      stream: StreamID(userID: userID, task: definition.name), kind: "interaction",
      occurredAt: try happened(message, cloud, times, now: now), input: JSONText(input),
      output: canonicalOutput, requestID: try request(), extra: extraText, offset: message.offset,
      sentAt: message.timestamp)
  }

  private func feedback(
    of message: KafkaMessage, userID: String, _ cloud: CloudEvent, _ times: EventTimes, now: Date,
    task: TaskLookup
  ) throws -> BehaviorEvent {
    guard let requestID = try request() else {
      throw MessageError(.invalidMessage, "feedback needs the \"request_id\" that it is about")
    }
    let output = self.output.flatMap { $0.isNull ? nil : $0.value }
    let verdict = try verdict(hasOutput: output != nil)
    let ownTask = try Self.text(self.task, "task")
    let definition = try ownTask.map { try task($0).0 }
    var ownInput: JSONValue?
    if let input, !input.isNull {
      guard input.isObject else { throw noInput() }
      ownInput = input.value
    }
    var event = IncomingEvent(
      eventID: try identifier(message, cloud),
      stream: StreamID(userID: userID, task: definition?.name ?? ""), kind: "feedback",
      occurredAt: try happened(message, cloud, times, now: now),
      input: ownInput.map { JSONText($0) } ?? JSONText(.object([:])), output: nil,
      requestID: requestID, verdict: verdict?.rawValue, extra: extraText, offset: message.offset,
      sentAt: message.timestamp)
    if let definition, let ownInput {
      event.output = try Self.validated(definition, ownInput, output)
      if event.output != nil || verdict == .rejected { return .record(event) }
    }
    return .feedback(
      Feedback(
        event: event, requestID: requestID, verdict: verdict, output: output,
        hasInput: ownInput != nil))
  }

  private func verdict(hasOutput: Bool) throws -> Feedback.Verdict? {
    guard let text = try Self.text(feedback, "feedback") else {
      if hasOutput { return nil }
      throw MessageError(
        .invalidMessage,
        "feedback needs \"feedback\": accepted, edited or rejected; or the \"output\" that the user wants"
      )
    }
    guard let verdict = Feedback.Verdict(rawValue: text) else {
      throw MessageError(
        .invalidMessage,
        "\"feedback\" must be accepted, edited or rejected, found \"\(text.prefix(40))\"")
    }
    switch verdict {
    case .edited where !hasOutput:
      throw MessageError(.invalidMessage, "edited feedback needs the user's \"output\"")
    case .rejected where hasOutput:
      throw MessageError(
        .invalidMessage,
        "rejected feedback has no \"output\"; where the user wrote another one it is edited")
    default: return verdict
    }
  }

  // MARK: Single fields

  private var extraText: JSONText? {
    extra.isEmpty
      ? nil : JSONText(checked: [UInt8(ascii: "{")] + extra + [UInt8(ascii: "}")])
  }

  private func taskName() throws -> String {
    try Envelope.required(try Self.text(task, "task"), "task", maximum: 128)
  }

  private func noInput() -> MessageError {
    MessageError(
      .invalidMessage, "\"input\" must be an object, found \(input?.kindName ?? "nothing")")
  }

  private func request() throws -> String? {
    guard let text = try Self.text(requestID, "request_id") else { return nil }
    guard text.utf8.count <= PersonalizationRequest.maximumIdentifierBytes else {
      throw MessageError(
        .invalidMessage,
        "\"request_id\" has \(text.utf8.count) bytes; at most \(PersonalizationRequest.maximumIdentifierBytes) are allowed"
      )
    }
    return text
  }

  private func identifier(_ message: KafkaMessage, _ cloud: CloudEvent) throws -> String {
    // A retried produce of the same record has another offset, so producers that retry by themselves
    // should set event_id; without one the place in the topic is the identity, of a replayed one the first.
    try Envelope.required(
      try Self.text(eventID, "event_id") ?? cloud.identifier
        ?? message.header(BehaviorEvent.placeHeader).map { String(decoding: $0, as: UTF8.self) }
        ?? BehaviorEvent.place(
          topic: message.topic, partition: message.partition, offset: message.offset,
          logNumber: logNumber), "event_id",
      maximum: BehaviorEvent.maximumIdentifierBytes)
  }

  private func happened(
    _ message: KafkaMessage, _ cloud: CloudEvent, _ times: EventTimes, now: Date
  ) throws -> Date {
    let date: Date
    if let bytes = occurredAt?.plainBytes, let parsed = Timestamps.parse(bytes) {
      date = parsed
    } else if let text = try Self.text(occurredAt, "occurred_at") ?? cloud.time {
      guard let parsed = Timestamps.parse(text) else {
        throw MessageError(
          .invalidMessage,
          "\"occurred_at\" must be an RFC 3339 time such as 2026-01-31T09:30:00Z, found \"\(text.prefix(60))\""
        )
      }
      date = parsed
    } else {
      date = message.timestamp ?? now
    }
    // As it came: before 1582 other calendars have another day.
    func came() throws -> String {
      try Self.text(occurredAt, "occurred_at") ?? cloud.time ?? Timestamps.format(date)
    }
    guard date >= times.oldest else {
      throw MessageError(
        .invalidMessage,
        "the event is from \(try came()); times before \(Timestamps.format(times.oldest)) are taken for a clock that is not set"
      )
    }
    guard date.timeIntervalSince(now) <= times.future else {
      throw MessageError(
        .invalidMessage,
        "the event is from \(Timestamps.format(date)), more than \(Int(times.future)) s in the future"
      )
    }
    return date
  }

  /// A text field, or nil where it is absent or null. Identifiers are often numbers in other systems.
  private static func text(_ view: JSONView?, _ name: StaticString) throws -> String? {
    guard let view, !view.isNull else { return nil }
    if let text = view.string { return text }
    guard view.isNumber else {
      throw MessageError(.invalidMessage, "\"\(name)\" must be a string, found \(view.kindName)")
    }
    guard let text = view.identifierText else { throw MessageError.unclearNumber("\(name)") }
    return text
  }

  /// The output in the task's own form.
  static func validated(
    _ task: TaskDefinition, _ input: JSONValue, _ output: JSONValue?
  ) throws -> String? {
    do {
      return try task.validate(input: input, output: output).output
    } catch let error as TaskContentError {
      throw MessageError(.invalidInput, error.description)
    }
  }
}

extension KafkaMessage {
  /// A time that a header gives in milliseconds since 1970.
  fileprivate func date(in name: String) -> Date? {
    header(name).flatMap { Int64(String(decoding: $0, as: UTF8.self)) }
      .map { Date(timeIntervalSince1970: Double($0) / 1000) }
  }
}

extension MessageError {
  static func unknownTask(_ name: String, in catalogue: TaskCatalogue) -> MessageError {
    let known = catalogue.names.joined(separator: ", ")
    return MessageError(
      .unknownTask, "there is no task \"\(name)\" in the catalogue; it has \(known)")
  }
}
