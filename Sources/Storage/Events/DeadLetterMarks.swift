// Which dead letters were replayed: a mark in the same transaction in which their messages are sent.

import Foundation
import PostgresClient

/// A dead letter by its place, and by its contents, for a topic made anew has others in the same places.
public struct DeadLetterMark: Sendable, Hashable {
  /// Of the dead letters' topic.
  public let partition: Int32
  /// In the dead letters' topic.
  public let offset: Int64
  /// Of the letter's timestamp, key and value.
  public let digest: Int64

  /// - Parameter digest: of the letter's timestamp, key and value.
  public init(partition: Int32, offset: Int64, digest: Int64) {
    self.partition = partition
    self.offset = offset
    self.digest = digest
  }
}

/// The marks of the dead letters of one topic.
public struct DeadLetterMarks: Sendable {
  private let database: any Database
  private let topic: String

  /// - Parameters:
  ///   - database: a transaction's connection, for ``add(_:)``.
  ///   - topic: the dead letters'.
  public init(_ database: any Database, topic: String) {
    self.database = database
    self.topic = topic
  }

  /// When letters were replayed last; those that never were are not in it.
  public func times(_ letters: [DeadLetterMark]) async throws -> [DeadLetterMark: Date] {
    try Self.read(
      try await database.query(
        """
        SELECT m.partition, m."offset", m.digest, m.replayed_at
        FROM dead_letter_replays m
        JOIN unnest(\(letters.map(\.partition))::integer[], \(letters.map(\.offset))::bigint[],
          \(letters.map(\.digest))::bigint[]) AS x (partition, "offset", digest)
          ON m.partition = x.partition AND m."offset" = x."offset" AND m.digest = x.digest
        WHERE m.topic = \(topic)
        """))
  }

  /// Marks letters as replayed now; who wants to mark the same ones waits until this transaction ends.
  /// - Parameter again: also those that are marked.
  /// - Returns: those that are this caller's to send.
  public func add(_ letters: [DeadLetterMark], again: Bool) async throws -> Set<DeadLetterMark> {
    let letters = letters.sorted { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
    let rows = try await database.query(
      """
      INSERT INTO dead_letter_replays AS m (topic, partition, "offset", digest)
      SELECT \(topic), x.* FROM unnest(\(letters.map(\.partition))::integer[],
        \(letters.map(\.offset))::bigint[], \(letters.map(\.digest))::bigint[]) AS x
      ON CONFLICT (topic, partition, "offset", digest)
      DO UPDATE SET replayed_at = now() WHERE \(again)
      RETURNING m.partition, m."offset", m.digest, m.replayed_at
      """)
    return Set(try Self.read(rows).keys)
  }

  /// Takes the marks of letters back that could not be sent.
  public func remove(_ letters: [DeadLetterMark]) async throws {
    try await database.execute(
      """
      DELETE FROM dead_letter_replays m
      USING unnest(\(letters.map(\.partition))::integer[], \(letters.map(\.offset))::bigint[],
        \(letters.map(\.digest))::bigint[]) AS x (partition, "offset", digest)
      WHERE m.topic = \(topic) AND m.partition = x.partition AND m."offset" = x."offset"
        AND m.digest = x.digest
      """)
  }

  /// Forgets the marks of letters below an offset, which are gone.
  public func forget(partition: Int32, below offset: Int64) async throws {
    try await database.execute(
      """
      DELETE FROM dead_letter_replays
      WHERE topic = \(topic) AND partition = \(partition) AND "offset" < \(offset)
      """)
  }

  private static func read(_ rows: [PostgresRow]) throws -> [DeadLetterMark: Date] {
    Dictionary(
      try rows.map { row in
        (
          DeadLetterMark(
            partition: try row.decode("partition"), offset: try row.decode("offset"),
            digest: try row.decode("digest")), try row.decode("replayed_at")
        )
      }, uniquingKeysWith: { $1 })
  }
}
