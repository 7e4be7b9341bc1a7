// Behaviour events into PostgreSQL, exactly once: the partition's next offset moves in the same transaction
// as the rows it stands for, and only for the consumer that holds the partition's newest epoch.

import Foundation
import Personalization
import PostgresClient

/// One step of a partition's batch, in the order of the offsets.
public enum IngestStep: Sendable {
  case events([IncomingEvent])
  /// To be joined to what was answered.
  case feedback([PendingFeedback])
  /// - Parameter order: when an operator erased the user, where that is what the message tells.
  case erase(userID: String, order: Date? = nil)
}

/// Feedback and how it becomes an event once the answer is known.
public struct PendingFeedback: Sendable {
  public let userID: String
  public let requestID: String
  /// Of its message in its partition.
  public let offset: Int64
  /// Throws the reason why it does not fit the answer.
  public let event: @Sendable (RecordedAnswer) throws -> IncomingEvent

  /// - Parameters:
  ///   - offset: of its message in its partition.
  ///   - event: makes the event of the answer; throws the reason why it does not fit.
  public init(
    userID: String, requestID: String, offset: Int64,
    event: @escaping @Sendable (RecordedAnswer) throws -> IncomingEvent
  ) {
    self.userID = userID
    self.requestID = requestID
    self.offset = offset
    self.event = event
  }
}

/// Feedback that fits no answer; nothing of its batch was written.
public struct UnmatchedFeedbackError: Error {
  /// By offset; nil: nothing is known of the request.
  public let reasons: [Int64: (any Error)?]
}

/// What the messages of one partition between two offsets come to.
public struct IngestBatch: Sendable {
  public var topic: String
  public var partition: Int32
  /// Where the partition must stand in PostgreSQL for this batch to be taken.
  public var expectedOffset: Int64
  /// Where the partition stands afterwards.
  public var nextOffset: Int64
  /// Of the claim under which the messages were read.
  public var epoch: Int64
  /// In the order of the offsets.
  public var steps: [IngestStep]
  /// Messages of the batch that were refused.
  public var deadLetters: Int
  /// The newest message, by which the log is known again.
  public var last: LogMark?
  /// When the first of the messages was sent, by their own times.
  public var sentFrom: Date?

  public init(
    topic: String, partition: Int32, expectedOffset: Int64, nextOffset: Int64, epoch: Int64,
    steps: [IngestStep], deadLetters: Int, last: LogMark? = nil, sentFrom: Date? = nil
  ) {
    self.topic = topic
    self.partition = partition
    self.expectedOffset = expectedOffset
    self.nextOffset = nextOffset
    self.epoch = epoch
    self.steps = steps
    self.deadLetters = deadLetters
    self.last = last
    self.sentFrom = sentFrom
  }
}

/// What was done with a batch.
public struct IngestResult: Sendable, Equatable {
  /// Those that were stored.
  public var events = 0
  /// Events that were dropped because their user has one of that id.
  public var duplicates = 0
  /// Messages that asked for one, whether or not they found anybody.
  public var erasures = 0
  /// Events that were sent before an operator erased their user.
  public var forgotten = 0
  /// Whom an erasure did not find, and users with nearly that name.
  public var notFound: [(userID: String, similar: [String])] = []

  public init(events: Int = 0, duplicates: Int = 0, erasures: Int = 0, forgotten: Int = 0) {
    self.events = events
    self.duplicates = duplicates
    self.erasures = erasures
    self.forgotten = forgotten
  }

  public static func == (a: IngestResult, b: IngestResult) -> Bool {
    (a.events, a.duplicates, a.erasures, a.forgotten)
      == (b.events, b.duplicates, b.erasures, b.forgotten)
  }
}

/// The partition was assigned to another consumer, or moved on without this one.
public struct ZombieConsumerError: Error, CustomStringConvertible {
  public let topic: String
  public let partition: Int32
  public var description: String {
    "partition \(topic)-\(partition) is no longer ours; its batch was dropped and will be read by its new owner"
  }
}

/// Writes events with the positions that go with them; claims, holds and moves those positions.
public struct IngestRepository: Sendable {
  let client: PostgresClient
  private let key: ReceiptKey

  /// - Parameter key: the one that erasures are recorded with.
  public init(_ client: PostgresClient, key: ReceiptKey = .stored) {
    self.client = client
    self.key = key
  }

  /// A batch whose rows are made: what can be done before the transaction.
  public struct Prepared: Sendable {
    public let batch: IngestBatch
    fileprivate var steps: [Step]

    fileprivate enum Step: Sendable {
      case events(EventRows)
      case feedback([PendingFeedback])
      case erase(userID: String, order: Date?)
    }

    /// - Throws: `PostgresError` for a value that PostgreSQL cannot hold.
    public init(_ batch: IngestBatch) throws {
      self.batch = batch
      steps = try batch.steps.map { step in
        switch step {
        case .events(let events):
          .events(try EventRows(events, topic: batch.topic, partition: batch.partition))
        case .feedback(let feedback): .feedback(feedback)
        case .erase(let userID, let order): .erase(userID: userID, order: order)
        }
      }
    }
  }

  /// Writes a batch in one transaction.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's; `PostgresError`.
  public func write(_ batch: IngestBatch) async throws -> IngestResult {
    try await write(try Prepared(batch))
  }

  /// Writes a batch in one transaction.
  /// - Parameter expectRepeats: looks for known event ids first; where there are many, as in a replay, that is
  ///   cheaper than a COPY that fails.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's;
  ///   ``UnmatchedFeedbackError``; `PostgresError`.
  public func write(_ prepared: Prepared, expectRepeats: Bool = false) async throws -> IngestResult
  {
    let batch = prepared.batch
    return try await client.withTransaction { connection in
      // A worker that is stopped in mid-batch holds the partition's row; its next owner waits no longer than this.
      try await connection.execute(
        "SET LOCAL idle_in_transaction_session_timeout = \(unsafeSQL: Self.idleLimit)")
      // First, because it also locks the partition's row against a concurrent owner.
      let moved = try await connection.execute(
        """
        UPDATE ingest_partitions SET next_offset = \(batch.nextOffset), updated_at = now(),
          last_offset = coalesce(\(batch.last?.offset), last_offset),
          last_digest = coalesce(\(batch.last?.digest), last_digest),
          anchor_offset = coalesce(anchor_offset, \(batch.last?.offset)),
          anchor_digest = coalesce(anchor_digest, \(batch.last?.digest))
        WHERE topic = \(batch.topic) AND partition = \(batch.partition)
          AND next_offset = \(batch.expectedOffset) AND epoch = \(batch.epoch)
        """)
      guard moved == 1 else {
        throw ZombieConsumerError(topic: batch.topic, partition: batch.partition)
      }
      var result = IngestResult()
      var erased: ErasureOrders?
      if let sentFrom = batch.sentFrom {
        erased = try await ErasureRepository.orders(since: sentFrom, key: key, on: connection)
      }
      for step in prepared.steps {
        switch step {
        case .events(let all):
          let rows = try Self.kept(all, erased, of: batch)
          result.forgotten += all.events.count - rows.events.count
          let written = try await Self.insert(
            rows, of: batch, expectRepeats: expectRepeats, on: connection)
          result.events += written
          result.duplicates += rows.events.count - written
        case .feedback(let feedback):
          let events = try await AnswerRepository.join(feedback, on: connection)
          let all = try EventRows(events, topic: batch.topic, partition: batch.partition)
          let rows = try Self.kept(all, erased, of: batch)
          result.forgotten += all.events.count - rows.events.count
          let written = try await Self.insert(
            rows, of: batch, expectRepeats: expectRepeats, on: connection)
          result.events += written
          result.duplicates += rows.events.count - written
        case .erase(let userID, let order):
          let erasure = try await ErasureRepository(connection, key: key)
            .erase(userID: userID, order: order)
          if case .nothing(let similar) = erasure.found {
            result.notFound.append((userID, similar))
          }
          result.erasures += 1
        }
      }
      try await connection.execute(
        """
        UPDATE ingest_partitions SET events = events + \(result.events),
          duplicates = duplicates + \(result.duplicates),
          dead_letters = dead_letters + \(batch.deadLetters),
          erasures = erasures + \(result.erasures),
          forgotten = forgotten + \(result.forgotten)
        WHERE topic = \(batch.topic) AND partition = \(batch.partition)
        """)
      return result
    }
  }

  /// The events that no operator's erasure forbids.
  private static func kept(
    _ rows: EventRows, _ erased: ErasureOrders?, of batch: IngestBatch
  ) throws -> EventRows {
    guard let erased else { return rows }
    var until: [String: Date?] = [:]
    let events = try rows.events.filter { event in
      let user = event.stream.userID
      let before = try until[user] ?? erased.until(user)
      until[user] = .some(before)
      guard let before, let sentAt = event.sentAt else { return true }
      return sentAt > before
    }
    return events.count == rows.events.count
      ? rows : try EventRows(events, topic: batch.topic, partition: batch.partition)
  }

  /// How long a batch's transaction may stand still, in PostgreSQL's words.
  private static let idleLimit = "'20s'"

  /// Whether a batch of unknown fate was taken: its partition stands where the batch puts it.
  public func stands(_ batch: IngestBatch) async throws -> Bool {
    try await !client.query(
      """
      SELECT 1 FROM ingest_partitions WHERE topic = \(batch.topic)
        AND partition = \(batch.partition) AND next_offset = \(batch.nextOffset)
        AND epoch = \(batch.epoch)
      """
    ).isEmpty
  }

  /// Inserts events and returns how many were new. COPY under a savepoint; on a repeated event id, which is
  /// rare, the known ones are taken out and the rest is copied again.
  private static func insert(
    _ rows: EventRows, of batch: IngestBatch, expectRepeats: Bool,
    on connection: PostgresConnection
  ) async throws -> Int {
    var fresh = rows
    if expectRepeats { fresh = try await new(in: fresh, of: batch, on: connection) }
    // A concurrent transaction may commit the same id between the look-up and the COPY: then once more.
    for attempt in 1... {
      guard !fresh.events.isEmpty else { return 0 }
      let rows = fresh
      do {
        try await connection.withSavepoint { connection in
          try await copy(rows, on: connection)
        }
        return fresh.events.count
      } catch let error as PostgresError where error.isUniqueViolation && attempt <= 5 {
        fresh = try await new(in: fresh, of: batch, on: connection)
      }
    }
    return 0
  }

  /// The events whose ids their users do not have yet, each once.
  private static func new(
    in rows: EventRows, of batch: IngestBatch, on connection: PostgresConnection
  ) async throws -> EventRows {
    let known = try await connection.query(
      """
      SELECT e.user_id, e.event_id FROM behavior_events e
      JOIN unnest(\(rows.events.map(\.stream.userID))::text[], \(rows.events.map(\.eventID))::text[])
        AS x(u, i) ON e.user_id = x.u AND e.event_id = x.i
      """)
    // A stream's pair of texts compares by bytes, as is wanted here too.
    typealias Identity = StreamID
    var seen = Set(try known.map { try $0.stream(at: 0) as Identity })
    let events = rows.events.filter {
      seen.insert(Identity(userID: $0.stream.userID, task: $0.eventID)).inserted
    }
    return events.count == rows.events.count
      ? rows : try EventRows(events, topic: batch.topic, partition: batch.partition)
  }

  private static func copy(_ rows: EventRows, on connection: PostgresConnection) async throws {
    let streams = rows.streams
    // Numbers the new events under the row lock of their stream, in one order everywhere.
    let counts = try await connection.query(
      """
      INSERT INTO user_task_state AS s (user_id, task, event_count, oldest_at)
      SELECT u, t, n, o FROM unnest(\(streams.map(\.stream.userID))::text[],
        \(streams.map(\.stream.task))::text[], \(streams.map(\.count))::bigint[],
        \(streams.map(\.oldest))::timestamptz[]) WITH ORDINALITY AS x(u, t, n, o, i)
      ORDER BY i
      ON CONFLICT (user_id, task)
      DO UPDATE SET event_count = s.event_count + excluded.event_count,
        oldest_at = least(s.oldest_at, excluded.oldest_at), updated_at = now()
      RETURNING event_count, user_id, task
      """)
    // PostgreSQL returns rows as it inserts them, but does not promise it.
    var last: [Int64] = []
    last.reserveCapacity(counts.count)
    for (row, part) in zip(counts, streams) {
      guard try row.stream(at: 1) == part.stream else { break }
      last.append(try row.decode(at: 0))
    }
    if last.count < streams.count {
      let byStream = Dictionary(
        try counts.map { (try $0.stream(at: 1), try $0.decode(at: 0, as: Int64.self)) },
        uniquingKeysWith: { first, _ in first })
      last = streams.map { byStream[$0.stream] ?? $0.count }
    }
    var numbered = rows
    numbered.number(upTo: last)
    try await connection.copyIn(
      table: "behavior_events", columns: EventRows.columns, rows: numbered.rows)
  }
}
