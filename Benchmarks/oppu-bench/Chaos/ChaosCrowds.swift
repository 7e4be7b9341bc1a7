// Requests that would hold up others where the worker let them: one of a kind, and ordinary ones beside it.

import Foundation
import PostgresClient

struct ChaosCrowds: Sendable {
  let servers: ChaosServers
  let workers: ChaosWorkers
  let traffic: ChaosTraffic
  let ledger: ChaosLedger
  /// Users whose requests are ordinary.
  let users: [String]

  static let task = "film_tag"
  /// Where the rows stand that the trial writes itself.
  static let topic = "chaos"
  private static let historyEvents = 1_000
  private static let eventBytes = 46_000
  /// What requests of such a user may cost a worker.
  static let memoryLimit = 256 << 20

  // MARK: Adapters

  /// A user whose adapter's weights are finite and so large that nothing it computes is asks among six others, who
  /// all are answered.
  func askWithHugeWeights() async throws {
    let user = "huge-\(UUID().uuidString.prefix(8))"
    guard try await storeHugeWeights(for: user) else {
      await ledger.find("nobody had an adapter within 90 s")
      return
    }
    try await awaitReplies(
      await traffic.ask(
        [(.hugeWeights, user)] + others(6).map { (.label, $0) }, deadline: .seconds(20)))
  }

  /// Another user's active adapter with all its weights replaced.
  private func storeHugeWeights(for user: String) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(90)
    while .now < end, !Task.isCancelled {
      let row = try? await servers.database.query(
        """
        SELECT job_id, weights FROM adapters
        WHERE task = \(Self.task) AND state = 'active' AND weights IS NOT NULL LIMIT 1
        """
      ).first
      guard let row else {
        try await Task.sleep(for: .seconds(1))
        continue
      }
      let weights = Self.huge(try row.decode("weights", as: Data.self))
      let stored = try await servers.database.execute(
        """
        INSERT INTO adapters (user_id, task, version, state, base_fingerprint, configuration, weights,
          weights_sha256, byte_count, trained_through, training, gate, job_id, promoted_at)
        SELECT \(user), task, 1, 'active', base_fingerprint, configuration, \(weights),
          encode(sha256(\(weights)), 'hex'), byte_count, 0, training, gate,
          nextval('training_job_ids'), now()
        FROM adapters WHERE job_id = \(try row.decode("job_id", as: Int64.self))
        """)
      // Its user may have been erased in between.
      if stored == 0 { continue }
      return true
    }
    return false
  }

  /// A safetensors file of 32-bit floats: eight bytes that say how long the header is, the header, the values.
  private static func huge(_ file: Data) -> Data {
    var bytes = [UInt8](file)
    guard bytes.count > 8 else { return file }
    let header = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    let value = withUnsafeBytes(of: Float(3e30).bitPattern.littleEndian) { Array($0) }
    for index in stride(from: 8 + header, to: bytes.count - 3, by: 4) {
      bytes.replaceSubrange(index..<index + 4, with: value)
    }
    return Data(bytes)
  }

  // MARK: Histories

  /// A user with 46 MB of history asks fifteen times for something of it. The others are answered meanwhile, and the
  /// workers' memory stays what it was.
  func askOfLongHistory() async throws {
    let user = "archivist"
    try await storeHistory(of: user)
    // What a worker needs for its first answers is not these requests' doing.
    try await awaitReplies(
      await traffic.ask(others(6).map { (.label, $0) }, deadline: .seconds(60)))
    var (before, most): ([Int?], [Int?]) = ([], [])
    let isAlone = try await withoutTraining {
      before = await workers.memory
      most = try await mostMemory(askingAs: user)
    }
    for (index, bytes) in most.enumerated() where isAlone {
      guard let before = before[index], let bytes, bytes - before > Self.memoryLimit else {
        continue
      }
      await ledger.find(
        "worker \(index) took \((bytes - before) >> 20) MiB more for requests of one user with a long history"
      )
    }
  }

  private func mostMemory(askingAs user: String) async throws -> [Int?] {
    let watch = Task {
      var most = await workers.memory
      while !Task.isCancelled {
        for (index, bytes) in await workers.memory.enumerated() {
          most[index] = bytes.map { max($0, most[index] ?? 0) }
        }
        try? await Task.sleep(for: .milliseconds(100))
      }
      return most
    }
    let own = await traffic.ask(
      Array(repeating: (.longHistory, user), count: 15), deadline: .seconds(60))
    let beside = await traffic.ask(others(6).map { (.label, $0) }, deadline: .seconds(10))
    try await awaitReplies(own + beside)
    watch.cancel()
    return await watch.value
  }

  /// Does something while the queue is paused, for a training takes memory too.
  /// - Returns: whether nobody trained meanwhile. The trial's operator may resume the queue.
  private func withoutTraining(_ body: () async throws -> Void) async throws -> Bool {
    func isAnyTraining(since start: Date) async throws -> Bool {
      try await servers.database.query(
        "SELECT 1 FROM training_jobs WHERE state = 'running' OR started_at > \(start) LIMIT 1"
      ).isEmpty == false
    }
    _ = try await workers.run(["admin", "queue", "pause", "--execute"])
    for _ in 0..<90 {
      guard (try? await isAnyTraining(since: .distantFuture)) != false else { break }
      try await Task.sleep(for: .seconds(1))
    }
    let start = Date()
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    let isAlone = (try? await isAnyTraining(since: start)) == false
    _ = try await workers.run(["admin", "queue", "resume", "--execute"])
    try result.get()
    if !isAlone { BenchDatabase.say("somebody trained beside: memory is not judged") }
    return isAlone
  }

  /// Past the topic and the scheduler: what is tried is reading it.
  private func storeHistory(of user: String) async throws {
    try await servers.database.withTransaction { connection in
      let isThere = try await connection.query(
        "SELECT 1 FROM user_task_state WHERE user_id = \(user) AND task = \(Self.task)")
      guard isThere.isEmpty else { return }
      try await connection.execute(
        """
        INSERT INTO user_task_state (user_id, task, event_count, scheduled_through, oldest_at)
        VALUES (\(user), \(Self.task), \(Self.historyEvents)::bigint, \(Self.historyEvents)::bigint, now())
        """)
      try await connection.execute(
        """
        INSERT INTO behavior_events (user_id, task, ordinal, event_id, kind, occurred_at, input, output,
          topic, partition, "offset")
        SELECT \(user), \(Self.task), n, 'archive-' || n, 'interaction', now(),
          jsonb_build_object('film', (SELECT left(string_agg(md5(n || '-' || word), ' '), \(Self.eventBytes)::integer)
            FROM generate_series(1, 1400) AS word)), 'funny', \(Self.topic), 0, n
        FROM generate_series(1, \(Self.historyEvents)::integer) AS n
        """)
    }
  }

  // MARK: Replies and answers

  /// Replies to topics that do not exist; ordinary requests come a moment later.
  func askForUnknownTopics() async throws {
    let first = await traffic.ask(
      others(3).map { (.unknownTopic, $0) }, deadline: .seconds(60))
    await servers.pause(.seconds(1))
    let second = await traffic.ask(others(6).map { (.label, $0) }, deadline: .seconds(10))
    try await awaitReplies(first + second)
  }

  /// Answers that take longer to compute than a member of a group may be silent.
  func askForLongAnswers() async throws {
    let ids = await traffic.ask(others(5).map { (.longAnswer, $0) }, deadline: .seconds(86_400))
    try await awaitReplies(ids, .seconds(300))
  }

  // MARK: Asking

  private func others(_ count: Int) -> [String] {
    (0..<count).map { users[$0 % users.count] }
  }

  private func awaitReplies(_ ids: [String], _ patience: Duration = .seconds(90)) async throws {
    let end = ContinuousClock.now + patience
    while .now < end, !Task.isCancelled {
      if await ledger.areAnswered(ids) { return }
      try await Task.sleep(for: .milliseconds(500))
    }
  }
}
