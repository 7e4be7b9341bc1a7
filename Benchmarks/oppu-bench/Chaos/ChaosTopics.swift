// Topics that are made anew, cut short or read again in a trial, and the operator who is told that a partition waits.

import Foundation
import KafkaClient
import PostgresClient
import Worker

struct ChaosTopics: Sendable {
  static let partitions: Int32 = 4

  let servers: ChaosServers
  let workers: ChaosWorkers
  let traffic: ChaosTraffic
  let ledger: ChaosLedger
  let configuration: WorkerConfiguration.Kafka

  private func withAdmin<T: Sendable>(
    _ body: (KafkaAdmin) async throws -> T
  ) async throws -> T {
    let admin = try KafkaAdmin(configuration: configuration.client, logger: BenchDatabase.logger)
    let result: Result<T, any Error>
    do { result = .success(try await body(admin)) } catch { result = .failure(error) }
    await admin.close()
    return try result.get()
  }

  private var eventPartitions: [TopicPartition] {
    (0..<Self.partitions).map {
      TopicPartition(topic: configuration.behaviorTopic, partition: $0)
    }
  }

  // MARK: Reading to the end

  /// Whether ingest stands at the end of every partition.
  private func areEventsRead() async throws -> Bool {
    let ends = try await withAdmin { admin in
      var ends: Int64 = 0
      for partition in eventPartitions { ends += try await admin.watermarks(of: partition).high }
      return ends
    }
    let stored = try await servers.database.query(
      "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint AS n FROM ingest_partitions"
    ).first?.decode("n", as: Int64.self)
    return stored == ends
  }

  private func wait(
    _ limit: Duration, until isDone: () async throws -> Bool
  ) async throws -> Bool {
    let end = ContinuousClock.now + limit
    while .now < end, !Task.isCancelled {
      if (try? await isDone()) == true { return true }
      try await Task.sleep(for: .milliseconds(300))
    }
    return false
  }

  /// Does something while nothing is sent and all of a topic is taken; finds it where that does not come to be.
  private func withDrained(
    _ topic: String, isAnew: Bool = false, _ body: () async throws -> Void
  ) async throws {
    try await traffic.pause()
    let isRequests = topic == configuration.requestTopic
    let isDrained = try await wait(.seconds(90)) {
      if isRequests { return await ledger.unanswered.isEmpty }
      return try await areEventsRead()
    }
    if isDrained {
      try await body()
    } else {
      await ledger.find("\(topic) was not read to its end within 90 s")
    }
    await traffic.resume(isAnew: isAnew && isDrained)
  }

  /// Does something while nobody sends, where the broker is one that loses what it has just acknowledged.
  func withoutSending(_ body: () async throws -> Void) async throws {
    guard servers.brokers.isStandIn else { return try await body() }
    try await traffic.pause()
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    await traffic.resume()
    try result.get()
  }

  // MARK: Faults

  func makeEventsAnew(withWorkersDown isDown: Bool) async throws {
    try await makeAnew(configuration.behaviorTopic, withWorkersDown: isDown)
  }

  func makeRequestsAnew(withWorkersDown isDown: Bool) async throws {
    try await makeAnew(configuration.requestTopic, withWorkersDown: isDown)
  }

  private func makeAnew(_ topic: String, withWorkersDown isDown: Bool) async throws {
    try await withDrained(topic, isAnew: true) {
      if isDown { await workers.stopAll() }
      try await withAdmin { admin in
        _ = try? await admin.deleteTopics([topic])
        let new = NewTopic(
          name: topic, partitions: Self.partitions, replication: servers.brokers.replication)
        let isMade = try await wait(.seconds(30)) {
          try await admin.createTopics([new])[topic] == .created
        }
        if !isMade { await ledger.find("the trial could not make \(topic) anew") }
      }
    }
    guard isDown else { return }
    // The new topic is longer than nothing by the time that they are back.
    await servers.pause(.seconds(3))
    await workers.want()
  }

  /// Half of what is there goes, all of which was read.
  func truncateEvents() async throws {
    try await withDrained(configuration.behaviorTopic) {
      try await withAdmin { admin in
        var before: [TopicPartition: Int64] = [:]
        for partition in eventPartitions {
          let marks = try await admin.watermarks(of: partition)
          before[partition] = (marks.low + marks.high) / 2
        }
        do { try await admin.deleteRecords(before: before) } catch { BenchDatabase.say("\(error)") }
      }
    }
  }

  /// Everything is read again, by workers whom no message wakes: nothing is doubled, nobody who was erased comes
  /// back.
  func resetOffsets() async throws {
    try await withDrained(configuration.behaviorTopic) {
      let (status, output) = try await workers.run(
        ["admin", "offsets", "reset", "--to", "beginning", "--execute"])
      await ledger.countCommand()
      guard status == 0 else {
        await ledger.find("offsets reset: \(output)")
        return
      }
      // Taken up soon; reading all of it again takes as long as it takes.
      let isFollowed = try await wait(.seconds(60)) {
        try await servers.database.query(
          "SELECT 1 FROM ingest_partitions WHERE released AND gap IS NULL"
        ).isEmpty
      }
      if !isFollowed {
        await ledger.find("idle workers did not follow `offsets reset` within 60 s")
      } else if try await !wait(.seconds(300), until: areEventsRead) {
        await ledger.find("after `offsets reset` the events were not read again within 300 s")
      }
    }
  }

  // MARK: The operator

  /// Does what an operator does who is told that partitions wait: has them read from their beginning.
  func resolveGaps() async throws {
    while !Task.isCancelled {
      try await Task.sleep(for: .seconds(2))
      // Also of a schema that knows of no gaps.
      let gaps = try? await servers.database.query(
        "SELECT partition FROM ingest_partitions p WHERE to_jsonb(p)->>'gap' IS NOT NULL"
      ).map { try $0.decode("partition", as: Int32.self) }
      guard let gaps, !gaps.isEmpty else { continue }
      let (status, output) = try await workers.run(
        ["admin", "offsets", "reset", "--to", "beginning", "--execute"]
          + gaps.flatMap { ["--partition", "\($0)"] })
      await ledger.countCommand()
      BenchDatabase.say(
        status == 0 ? "partitions \(gaps) waited and were reset" : "offsets reset: \(output)")
    }
  }
}
