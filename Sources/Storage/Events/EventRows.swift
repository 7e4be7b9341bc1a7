// Behaviour events as rows for COPY, made before the transaction begins; their ordinals are filled in inside it.

import Foundation
import JSON
import Personalization
import PostgresClient

/// A behaviour event as it is stored.
public struct IncomingEvent: Sendable {
  /// Unique within its user.
  public var eventID: String
  public var stream: StreamID
  /// `interaction` or `feedback`.
  public var kind: String
  /// By the producer: when it happened, not when it was sent.
  public var occurredAt: Date
  public var input: JSONText
  /// In the task's form; nil where the user chose nothing.
  public var output: String?
  /// The request that it is about; nil where it is about none.
  public var requestID: String?
  /// What the user said of an answer: accepted, edited or rejected.
  public var verdict: String?
  /// Fields of the message that no schema names, as an object; nil where there are none.
  public var extra: JSONText?
  /// Of its message in its partition.
  public var offset: Int64
  /// When its message was sent, by the producer's or the broker's clock.
  public var sentAt: Date?

  /// - Parameter offset: of its message in its partition.
  public init(
    eventID: String, stream: StreamID, kind: String, occurredAt: Date, input: JSONText,
    output: String?, requestID: String?, verdict: String? = nil, extra: JSONText?, offset: Int64,
    sentAt: Date? = nil
  ) {
    self.eventID = eventID
    self.stream = stream
    self.kind = kind
    self.occurredAt = occurredAt
    self.input = input
    self.output = output
    self.requestID = requestID
    self.verdict = verdict
    self.extra = extra
    self.offset = offset
    self.sentAt = sentAt
  }

  /// The same from values, without a verdict and the time of sending.
  public init(
    eventID: String, stream: StreamID, kind: String, occurredAt: Date, input: JSONValue,
    output: String?, requestID: String?, extra: JSONValue?, offset: Int64
  ) {
    self.init(
      eventID: eventID, stream: stream, kind: kind, occurredAt: occurredAt, input: JSONText(input),
      output: output, requestID: requestID, extra: extra.map { JSONText($0) }, offset: offset)
  }
}

/// Events of one partition, in the order of their offsets, with their rows.
struct EventRows: Sendable {
  static let columns = [
    "user_id", "task", "ordinal", "event_id", "kind", "occurred_at", "input", "output",
    "request_id", "verdict", "extra", "topic", "partition", "offset",
  ]

  /// A stream that has events here.
  struct StreamPart: Sendable {
    let stream: StreamID
    var count: Int64
    /// The time of its oldest event here.
    var oldest: Date
  }

  let events: [IncomingEvent]
  private(set) var rows: PostgresBinaryRows
  /// In the order in which their rows are locked.
  private(set) var streams: [StreamPart] = []
  /// For each event, where its ordinal stands in the rows, and its stream's index.
  private var places: [(ordinal: Int, stream: Int)] = []

  /// - Throws: `PostgresError` for a value that PostgreSQL cannot hold.
  init(_ events: [IncomingEvent], topic: String, partition: Int32) throws {
    self.events = events
    rows = PostgresBinaryRows(columns: Self.columns.count)
    rows.reserveCapacity(events.count * 512)
    places.reserveCapacity(events.count)
    var indexes: [StreamID: Int] = [:]
    for event in events {
      let index: Int
      if let known = indexes[event.stream] {
        index = known
        streams[index].count += 1
        streams[index].oldest = min(streams[index].oldest, event.occurredAt)
      } else {
        index = streams.count
        indexes[event.stream] = index
        streams.append(StreamPart(stream: event.stream, count: 1, oldest: event.occurredAt))
      }
      try append(event, stream: index, topic: topic, partition: partition)
    }
    sortStreams()
  }

  private mutating func append(
    _ event: IncomingEvent, stream: Int, topic: String, partition: Int32
  ) throws {
    if [event.stream.userID, event.eventID, event.output, event.requestID]
      .contains(where: { $0?.utf8.contains(0) == true })
    {
      throw PostgresError(
        kind: .invalidParameter, message: "a text contains U+0000, which PostgreSQL cannot store")
    }
    rows.beginRow()
    rows.append(event.stream.userID)
    rows.append(event.stream.task)
    rows.append(Int64(0))
    places.append((ordinal: rows.bytes.count - 8, stream: stream))
    rows.append(event.eventID)
    rows.append(event.kind)
    try rows.append(event.occurredAt)
    rows.append(json: event.input.bytes)
    rows.append(event.output)
    rows.append(event.requestID)
    rows.append(event.verdict)
    if let extra = event.extra { rows.append(json: extra.bytes) } else { rows.appendNull() }
    rows.append(topic)
    rows.append(partition)
    rows.append(event.offset)
  }

  private mutating func sortStreams() {
    let order = streams.indices.sorted { streams[$0].stream < streams[$1].stream }
    var moved = [Int](repeating: 0, count: order.count)
    for (new, old) in order.enumerated() { moved[old] = new }
    streams = order.map { streams[$0] }
    for index in places.indices { places[index].stream = moved[places[index].stream] }
  }

  /// Numbers the events on.
  /// - Parameter last: for each stream, the ordinal of its last event once these are in.
  mutating func number(upTo last: [Int64]) {
    var next = zip(streams, last).map { $1 - $0.count + 1 }
    for place in places {
      rows.overwrite(next[place.stream], at: place.ordinal)
      next[place.stream] += 1
    }
  }
}
