// Behaviour events into PostgreSQL, exactly once: the partition's next offset moves in the same transaction
// as the rows it stands for, and only for the consumer that holds the partition's newest epoch.

import Foundation
import Personalization
import PostgresClient

/// A behaviour event as it is stored.
public struct IncomingEvent: Sendable {
  public var eventID: String
  public var stream: Stream
  public var kind: String
  public var occurredAt: Date
  public var input: JSONValue
  public var output: String?
  public var requestID: String?
  public var extra: JSONValue?
  public var offset: Int64

  public init(
    eventID: String, stream: Stream, kind: String, occurredAt: Date, input: JSONValue,
    output: String?, requestID: String?, extra: JSONValue?, offset: Int64
  ) {
    self.eventID = eventID
    self.stream = stream
    self.kind = kind
    self.occurredAt = occurredAt
    self.input = input
    self.output = output
    self.requestID = requestID
    self.extra = extra
    self.offset = offset
  }
}

/// One step of a partition's batch, in the order of the offsets.
public enum IngestStep: Sendable {
  case events([IncomingEvent])
  case erase(userID: String)
}

/// What the messages of one partition between two offsets come to.
public struct IngestBatch: Sendable {
  public var topic: String
  public var partition: Int32
  /// Where the partition must stand in PostgreSQL for this batch to be taken.
  public var expectedOffset: Int64
  public var nextOffset: Int64
  public var epoch: Int64
  public var steps: [IngestStep]
  public var deadLetters: Int

  public init(
    topic: String, partition: Int32, expectedOffset: Int64, nextOffset: Int64, epoch: Int64,
    steps: [IngestStep], deadLetters: Int
  ) {
    self.topic = topic
    self.partition = partition
    self.expectedOffset = expectedOffset
    self.nextOffset = nextOffset
    self.epoch = epoch
    self.steps = steps
    self.deadLetters = deadLetters
  }
}

/// What was done with a batch.
public struct IngestResult: Sendable, Equatable {
  public var events = 0
  public var duplicates = 0
  public var erasures = 0
}

/// The partition was assigned to another consumer, or moved on without this one.
public struct ZombieConsumerError: Error, CustomStringConvertible {
  public let topic: String
  public let partition: Int32
  public var description: String {
    "partition \(topic)-\(partition) is no longer ours; its batch was dropped and will be read by its new owner"
  }
}

public struct IngestRepository: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// Where a partition continues, and the epoch under which its new owner may write.
  public struct Claim: Sendable {
    public let topic: String
    public let partition: Int32
    /// -1 where nothing was read yet.
    public let nextOffset: Int64
    public let epoch: Int64
  }

  /// Takes over partitions: from here on no earlier owner's batch is accepted.
  public func claim(topic: String, partitions: [Int32]) async throws -> [Claim] {
    try await client.withTransaction { connection in
      var claims: [Claim] = []
      for partition in partitions.sorted() {
        let rows = try await connection.query(
          """
          INSERT INTO ingest_partitions AS p (topic, partition) VALUES (\(topic), \(partition))
          ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1, updated_at = now()
          RETURNING next_offset, epoch
          """)
        for row in rows {
          claims.append(
            Claim(
              topic: topic, partition: partition, nextOffset: try row.decode("next_offset"),
              epoch: try row.decode("epoch")))
        }
      }
      return claims
    }
  }

  /// Puts a claimed partition back to its beginning, where the topic was made anew and has fewer messages than
  /// were read of the old one.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's.
  public func rewind(_ claim: Claim) async throws {
    let moved = try await client.execute(
      """
      UPDATE ingest_partitions SET next_offset = -1, updated_at = now()
      WHERE topic = \(claim.topic) AND partition = \(claim.partition) AND epoch = \(claim.epoch)
      """)
    guard moved == 1 else {
      throw ZombieConsumerError(topic: claim.topic, partition: claim.partition)
    }
  }

  /// Writes a batch in one transaction.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's; `PostgresError`.
  public func write(_ batch: IngestBatch) async throws -> IngestResult {
    try await client.withTransaction { connection in
      // First, because it also locks the partition's row against a concurrent owner.
      let moved = try await connection.execute(
        """
        UPDATE ingest_partitions SET next_offset = \(batch.nextOffset), updated_at = now()
        WHERE topic = \(batch.topic) AND partition = \(batch.partition)
          AND next_offset = \(batch.expectedOffset) AND epoch = \(batch.epoch)
        """)
      guard moved == 1 else {
        throw ZombieConsumerError(topic: batch.topic, partition: batch.partition)
      }
      var result = IngestResult()
      for step in batch.steps {
        switch step {
        case .events(let events):
          let written = try await Self.insert(
            events, topic: batch.topic, partition: batch.partition, on: connection)
          result.events += written
          result.duplicates += events.count - written
        case .erase(let userID):
          try await ErasureRepository(connection).erase(userID: userID)
          result.erasures += 1
        }
      }
      try await connection.execute(
        """
        UPDATE ingest_partitions SET events = events + \(result.events),
          duplicates = duplicates + \(result.duplicates),
          dead_letters = dead_letters + \(batch.deadLetters),
          erasures = erasures + \(result.erasures)
        WHERE topic = \(batch.topic) AND partition = \(batch.partition)
        """)
      return result
    }
  }

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

  /// Inserts events and returns how many were new. COPY under a savepoint; on a repeated event_id, which is
  /// rare, the known ones are taken out and the rest is copied again.
  private static func insert(
    _ events: [IncomingEvent], topic: String, partition: Int32, on connection: PostgresConnection
  ) async throws -> Int {
    var fresh: [IncomingEvent] = []
    var seen: Set<String> = []
    for event in events where seen.insert(event.eventID).inserted { fresh.append(event) }
    // A concurrent transaction may commit the same id between the look-up and the COPY: then once more.
    for attempt in 1... {
      guard !fresh.isEmpty else { return 0 }
      let rows = fresh
      do {
        try await connection.withSavepoint { connection in
          try await copy(rows, topic: topic, partition: partition, on: connection)
        }
        return fresh.count
      } catch let error as PostgresError where error.isUniqueViolation && attempt <= 5 {
        let known = try await connection.query(
          "SELECT event_id FROM behavior_events WHERE event_id = ANY(\(fresh.map(\.eventID)))")
        let ids = Set(try known.map { try $0.decode("event_id", as: String.self) })
        fresh.removeAll { ids.contains($0.eventID) }
      }
    }
    return 0
  }

  private static func copy(
    _ events: [IncomingEvent], topic: String, partition: Int32, on connection: PostgresConnection
  ) async throws {
    var counts: [Stream: Int64] = [:]
    for event in events { counts[event.stream, default: 0] += 1 }
    let streams = counts.keys.sorted()
    // Numbers the new events under the row lock of their stream, in one order everywhere.
    let rows = try await connection.query(
      """
      INSERT INTO user_task_state AS s (user_id, task, event_count)
      SELECT u, t, n FROM unnest(\(streams.map(\.userID))::text[], \(streams.map(\.task))::text[],
                                 \(streams.map { counts[$0] ?? 0 })::bigint[]) WITH ORDINALITY AS x(u, t, n, i)
      ORDER BY i
      ON CONFLICT (user_id, task)
      DO UPDATE SET event_count = s.event_count + excluded.event_count, updated_at = now()
      RETURNING user_id, task, event_count
      """)
    var next: [Stream: Int64] = [:]
    for row in rows {
      let stream = try row.stream()
      next[stream] = try row.decode("event_count", as: Int64.self) - (counts[stream] ?? 0) + 1
    }
    var values: [[PostgresValue?]] = []
    values.reserveCapacity(events.count)
    for event in events {
      let ordinal = next[event.stream] ?? 1
      next[event.stream] = ordinal + 1
      values.append([
        event.stream.userID.postgresValue(), event.stream.task.postgresValue(),
        ordinal.postgresValue(),
        event.eventID.postgresValue(), event.kind.postgresValue(), event.occurredAt.postgresValue(),
        try PostgresJSON(event.input).postgresValue(), event.output?.postgresValue(),
        event.requestID?.postgresValue(),
        try event.extra.flatMap { try PostgresJSON($0).postgresValue() },
        topic.postgresValue(), partition.postgresValue(), event.offset.postgresValue(),
      ])
    }
    try await connection.copyIn(
      table: "behavior_events",
      columns: [
        "user_id", "task", "ordinal", "event_id", "kind", "occurred_at", "input", "output",
        "request_id", "extra", "topic", "partition", "offset",
      ], rows: values)
  }

  /// A partition's position and counters, for operators.
  public struct PartitionStatus: Sendable, Codable {
    public let topic: String
    public let partition: Int32
    public let nextOffset: Int64
    public let events: Int64
    public let duplicates: Int64
    public let deadLetters: Int64
    public let erasures: Int64
    public let updatedAt: Date
  }

  public func partitions() async throws -> [PartitionStatus] {
    try await client.query(
      """
      SELECT topic, partition, next_offset, events, duplicates, dead_letters, erasures, updated_at
      FROM ingest_partitions ORDER BY topic, partition
      """
    ).map { row in
      PartitionStatus(
        topic: try row.decode("topic"), partition: try row.decode("partition"),
        nextOffset: try row.decode("next_offset"), events: try row.decode("events"),
        duplicates: try row.decode("duplicates"), deadLetters: try row.decode("dead_letters"),
        erasures: try row.decode("erasures"), updatedAt: try row.decode("updated_at"))
    }
  }
}
