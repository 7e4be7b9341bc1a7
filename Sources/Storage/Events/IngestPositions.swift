// The positions of ingest's partitions: claimed by who reads them, held where they fit no log, moved by operators.

import Foundation
import PostgresClient

extension IngestRepository {
  /// Where a partition continues, and the epoch under which its new owner may write.
  public struct Claim: Sendable {
    public let position: LogPosition
    /// Grows with every claim: a batch with an older one is refused.
    public let epoch: Int64
    /// Why it waited until now.
    public let gap: LogGap?

    public var topic: String { position.topic }
    public var partition: Int32 { position.partition }
    /// -1 where nothing was read yet.
    public var nextOffset: Int64 { position.next }
  }

  private static let positionColumns: PostgresQuery =
    """
    p.topic, p.partition, p.next_offset, p.log_number, p.anchor_offset, p.anchor_digest,
    p.last_offset, p.last_digest, p.epoch, p.gap, p.released
    """

  /// Takes over partitions: from here on no earlier owner's batch is accepted.
  public func claim(topic: String, partitions: [Int32]) async throws -> [Claim] {
    try await client.withTransaction { connection in
      var claims: [Claim] = []
      for partition in partitions.sorted() {
        claims += try await connection.query(
          """
          INSERT INTO ingest_partitions AS p (topic, partition) VALUES (\(topic), \(partition))
          ON CONFLICT (topic, partition)
          DO UPDATE SET epoch = p.epoch + 1, released = false, updated_at = now()
          RETURNING \(Self.positionColumns)
          """
        ).map { try Self.claim($0) }
      }
      return claims
    }
  }

  /// Where partitions stand, without claiming them; and whether an operator has put them there.
  public func standing(topic: String) async throws -> [(claim: Claim, isReleased: Bool)] {
    try await client.query(
      "SELECT \(Self.positionColumns) FROM ingest_partitions p WHERE topic = \(topic)"
    ).map { (try Self.claim($0), try $0.decode("released")) }
  }

  private static func claim(_ row: PostgresRow) throws -> Claim {
    func mark(_ name: String) throws -> LogMark? {
      guard let offset = try row.decode("\(name)_offset", as: Int64?.self),
        let digest = try row.decode("\(name)_digest", as: Int64?.self)
      else { return nil }
      return LogMark(offset: offset, digest: digest)
    }
    let gap = try row.optionalJSON("gap", as: LogGap.self)
    return Claim(
      position: LogPosition(
        topic: try row.decode("topic"), partition: try row.decode("partition"),
        next: try row.decode("next_offset"), logNumber: try row.decode("log_number"),
        anchor: try mark("anchor"), last: try mark("last")),
      epoch: try row.decode("epoch"), gap: gap)
  }

  /// Notes why a claimed partition waits; nil: it does not any more.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's.
  public func hold(_ claim: Claim, for gap: LogGap?) async throws {
    try await update(
      claim, "gap = \(gap.map { PostgresJSON($0) })")
  }

  /// Lets a claimed partition go on elsewhere than its stored offset says.
  /// - Parameters:
  ///   - next: the next offset to read.
  ///   - missing: messages that are thereby known to be lost or passed over.
  ///   - isOtherLog: its messages are others than those that were read at the same offsets.
  /// - Returns: where it stands.
  /// - Throws: ``ZombieConsumerError`` where the partition is no longer the caller's.
  public func move(
    _ claim: Claim, to next: Int64, missing: Int64, isOtherLog: Bool
  ) async throws -> LogPosition {
    try await update(
      claim,
      """
      next_offset = \(next), missing = missing + \(missing), gap = NULL,
        log_number = log_number + \(isOtherLog ? 1 : 0),
        anchor_offset = NULL, anchor_digest = NULL, last_offset = NULL, last_digest = NULL
      """)
    return LogPosition(
      topic: claim.topic, partition: claim.partition, next: next,
      logNumber: claim.position.logNumber + (isOtherLog ? 1 : 0))
  }

  /// Lets the newest message that was read stand for the log, where the oldest is no longer in it.
  public func anchor(_ claim: Claim) async throws {
    guard let last = claim.position.last else { return }
    try await client.execute(
      """
      UPDATE ingest_partitions SET anchor_offset = \(last.offset), anchor_digest = \(last.digest)
      WHERE topic = \(claim.topic) AND partition = \(claim.partition) AND epoch = \(claim.epoch)
        AND anchor_offset IS NOT DISTINCT FROM \(claim.position.anchor?.offset)
      """)
  }

  private func update(_ claim: Claim, _ changes: PostgresQuery) async throws {
    let moved = try await client.execute(
      """
      UPDATE ingest_partitions SET \(changes), updated_at = now()
      WHERE topic = \(claim.topic) AND partition = \(claim.partition) AND epoch = \(claim.epoch)
      """)
    guard moved == 1 else {
      throw ZombieConsumerError(topic: claim.topic, partition: claim.partition)
    }
  }

  /// Puts partitions to other offsets. Whoever reads them now can write nothing more until it has claimed them
  /// anew.
  /// - Parameters:
  ///   - offsets: the next offset to read by partition; -1: the beginning.
  ///   - gaps: why partitions wait, or would, where that is known. What is missing is counted; where another log
  ///     has come, ids that are derived from its offsets are told from the old one's from here on.
  public func reset(
    topic: String, offsets: [Int32: Int64], gaps: [Int32: LogGap] = [:]
  ) async throws {
    try await client.withTransaction { connection in
      for (partition, offset) in offsets.sorted(by: { $0.key < $1.key }) {
        try await connection.execute(
          """
          INSERT INTO ingest_partitions AS p (topic, partition, next_offset, released)
          VALUES (\(topic), \(partition), \(offset), true)
          ON CONFLICT (topic, partition)
          DO UPDATE SET next_offset = excluded.next_offset, epoch = p.epoch + 1, released = true,
            gap = NULL, updated_at = now()
          """)
        guard let gap = gaps[partition] else { continue }
        try await connection.execute(
          """
          UPDATE ingest_partitions SET missing = missing + \(gap.missing),
            log_number = log_number + \(gap.isOtherLog ? 1 : 0),
            anchor_offset = NULL, anchor_digest = NULL, last_offset = NULL, last_digest = NULL
          WHERE topic = \(topic) AND partition = \(partition)
          """)
      }
    }
  }

  /// A partition's position and counters, for operators.
  public struct PartitionStatus: Sendable, Codable {
    public let topic: String
    public let partition: Int32
    /// The next offset to read; -1 where nothing was read yet.
    public let nextOffset: Int64
    /// Those that were stored, also such as are gone by now.
    public let events: Int64
    /// Events that were dropped because their user had one of that id.
    public let duplicates: Int64
    /// Messages that were refused.
    public let deadLetters: Int64
    /// Messages that asked for one.
    public let erasures: Int64
    /// Events that were dropped because they were sent before their user was erased.
    public let forgotten: Int64
    /// Messages that are known to have been lost or passed over.
    public let missing: Int64
    /// Why the partition waits.
    public let gap: LogGap?
    /// When the position, or why it waits, changed last.
    public let updatedAt: Date
  }

  /// All partitions that were ever read or put somewhere, by topic and number.
  public func partitions() async throws -> [PartitionStatus] {
    try await client.query(
      """
      SELECT \(Self.positionColumns), events, duplicates, dead_letters, erasures, forgotten, missing,
        updated_at FROM ingest_partitions p ORDER BY topic, partition
      """
    ).map { row in
      let claim = try Self.claim(row)
      return PartitionStatus(
        topic: claim.topic, partition: claim.partition, nextOffset: claim.nextOffset,
        events: try row.decode("events"), duplicates: try row.decode("duplicates"),
        deadLetters: try row.decode("dead_letters"), erasures: try row.decode("erasures"),
        forgotten: try row.decode("forgotten"),
        missing: try row.decode("missing", as: Int64.self) + (claim.gap?.missing ?? 0),
        gap: claim.gap, updatedAt: try row.decode("updated_at"))
    }
  }
}
