// What one consumer reads of the topic of requests: where its partitions begin, how much of them is under way, and
// what is committed.
//
// A committed offset counts only for the log that it was committed for. Another log under the same name is read from
// its beginning: a request that is answered twice is a nuisance, one that is never answered is lost.

import KafkaClient
import Storage
import StructuredLogging
import Synchronization

final class RequestIntake: Sendable {
  private struct Place {
    /// Where the partition began, and by what its log is known.
    var position: LogPosition
    var anchoredAt: ContinuousClock.Instant?
  }

  private struct State {
    /// What the group gave us.
    var assigned: Set<TopicPartition> = []
    var places: [TopicPartition: Place] = [:]
    /// Partitions of which nothing is taken: to be begun anew then.
    var due: [TopicPartition: ContinuousClock.Instant] = [:]
    var halts = Halts()
    var isPaused = false
  }

  private let consumer: KafkaConsumer
  private let probe: KafkaLogProbe
  private let check: LogCheck
  private let requests: OpenRequests
  /// How many requests may be under way.
  private let limit: Int
  private let logger: Logger
  private let state = Mutex(State())

  /// How long partitions that are taken away, and a stop, wait for the replies that are under way.
  private static let drain = Duration.seconds(20)
  /// How long reading waits for a free place before it is paused.
  private static let patience = Duration.seconds(1)
  /// After that long a log that could not be looked at is looked at again.
  private static let retryAfter = Duration.seconds(1)
  /// How often positions and logs are held against each other.
  private static let watchInterval = Duration.seconds(3)
  /// How old what a log is known by may become before something newer takes its place: what a broker forgets, which
  /// lost its newest messages, is read again from there.
  private static let anchorAge = Duration.seconds(60)

  /// - Parameter requests: what is under way, which outlives a consumer that is made anew.
  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  init(
    _ kafka: WorkerConfiguration.Kafka, slot: WorkerSlot, limit: Int, requests: OpenRequests,
    logger: Logger
  ) throws {
    let group = "\(kafka.groupPrefix)-infer"
    // An offset that the log does not have is told, never exchanged for another; a damaged byte is not answered.
    let properties = kafka.membership(slot).merging([
      "auto.offset.reset": "error", "check.crcs": "true",
    ]) { $1 }
    consumer = try KafkaConsumer(
      configuration: kafka.client, group: group, topics: [kafka.requestTopic],
      properties: properties, logger: logger)
    probe = try KafkaLogProbe(configuration: kafka.client, group: group, logger: logger)
    check = LogCheck(probe)
    self.limit = limit
    self.requests = requests
    self.logger = logger
  }

  // MARK: Reading

  /// Answers what the group says, commits what is done, and returns new requests: about as many as may be under
  /// way.
  /// - Throws: `KafkaError`; `CancellationError`.
  func next() async throws -> [KafkaMessage] {
    await commit()
    try await beginDue()
    try await makeRoom()
    let event = try await consumer.next(
      maximumMessages: max(1, limit - requests.count),
      timeout: .milliseconds(requests.count > 0 ? 50 : 500))
    switch event {
    case .assigned(let partitions):
      state.withLock { $0.assigned.formUnion(partitions) }
      try await consumer.assign(try await begin(partitions))
      try await pauseAgain()
      logger.info("infer assigned", metadata: ["partitions": "\(partitions.count)"])
    case .revoked(let partitions, let lost):
      state.withLock { state in
        state.assigned.subtract(partitions)
        for partition in partitions {
          state.places[partition] = nil
          state.due[partition] = nil
        }
      }
      if lost {
        requests.lose(partitions)
      } else {
        try? await within(Self.drain) { [requests] in await requests.wait(untilDone: partitions) }
        await commit()
        requests.forget(partitions)
      }
      try await consumer.unassign(partitions)
    case .messages(let messages):
      return take(messages)
    case .halted(let partition, let error): halt(partition, error)
    case .idle: break
    }
    return []
  }

  /// What is taken of messages that came. The first of a partition is what its log is known by.
  private func take(_ messages: [KafkaMessage]) -> [KafkaMessage] {
    state.withLock { state in
      messages.filter { message in
        let partition = message.topicPartition
        // Of a partition that is to be begun anew what comes now is not what comes next.
        guard state.due[partition] == nil else { return false }
        if let place = state.places[partition], place.position.anchor == nil {
          state.places[partition]?.position.anchor = LogMark(message)
        }
        return true
      }
    }
  }

  /// Waits a little for a free place where enough is under way; where none comes, fetching stops but not polling:
  /// a member that does not poll is put out of its group, however long the computation takes that it waits for.
  private func makeRoom() async throws {
    let limit = limit
    if requests.count >= limit, !state.withLock({ $0.isPaused }) {
      try? await within(Self.patience) { [requests] in
        await requests.wait(untilAtMost: limit - 1)
      }
      if requests.count >= limit {
        state.withLock { $0.isPaused = true }
        try await pauseAgain()
      }
    }
    if requests.count < limit, state.withLock({ $0.isPaused }) {
      try await consumer.resume(fetched)
      state.withLock { $0.isPaused = false }
    }
  }

  /// Partitions that are assigned and begun.
  private var fetched: [TopicPartition] {
    state.withLock { state in state.assigned.filter { state.places[$0] != nil } }
  }

  private func pauseAgain() async throws {
    if state.withLock({ $0.isPaused }) { try await consumer.pause(fetched) }
  }

  /// Waits for the replies that are under way, and commits.
  func finish() async {
    try? await within(Self.drain) { [requests] in await requests.wait(untilAtMost: 0) }
    await commit()
  }

  /// Leaves the group.
  func close() async {
    probe.close()
    await consumer.close()
  }

  private func commit() async {
    let done = requests.uncommitted()
    guard !done.isEmpty else { return }
    let offsets = state.withLock { state in
      Dictionary(
        done.map { partition, last in
          var position = LogPosition(partition, committed: GroupOffset(next: last.offset + 1))
          position.anchor = state.places[partition]?.position.anchor
          position.last = last
          return (partition, position.committable)
        }, uniquingKeysWith: { $1 })
    }
    do {
      try await consumer.commit(offsets)
      requests.committed(done)
    } catch {
      // The partition moved on: its new owner answers these once more. Or the broker is away: later.
      logger.warning("offsets of answered requests not committed: \(error)")
    }
  }

  // MARK: Where partitions begin

  /// Where partitions begin: where the group stands, but for those that this process has lost in between, and those
  /// whose logs are others now. Those of which that cannot be told yet are left out, and begun later.
  private func begin(_ partitions: [TopicPartition]) async throws -> [TopicPartition: Int64] {
    var starts: [TopicPartition: Int64] = [:]
    do {
      let committed = try await consumer.committed(partitions)
      let positions = partitions.map { known(LogPosition($0, committed: committed[$0])) }
      let views = try await check.views(of: positions.filter { $0.next >= 0 })
      for position in positions {
        let partition = position.topicPartition
        guard position.next < 0 || views[partition] != nil else { continue }
        starts[partition] = begin(position, views[partition], committed[partition]?.next)
      }
    } catch let error as KafkaError where !error.isFatal {
      logger.warning("where partitions of requests begin cannot be told: \(error)")
    }
    state.withLock { state in
      for partition in partitions {
        state.due[partition] = starts[partition] == nil ? .now + Self.retryAfter : nil
        if starts[partition] == nil { state.places[partition] = nil }
      }
    }
    return starts
  }

  /// A position with what this process itself knows of its log.
  private func known(_ position: LogPosition) -> LogPosition {
    var position = position
    let partition = position.topicPartition
    if let newest = requests.marks(of: partition).newest { position.pass(newest) }
    if let anchor = state.withLock({ $0.places[partition]?.position.anchor }) {
      position.anchor = anchor
    }
    return position
  }

  private func begin(_ position: LogPosition, _ view: LogView?, _ committed: Int64?) -> Int64 {
    let partition = position.topicPartition
    var position = position
    let start: Int64
    if let view, let gap = position.gap(in: view) {
      // What is under way of the log before goes on, and is not committed.
      requests.forget([partition])
      start = position.restart(over: gap, view)
      logger.error("\(partition): \(gap.description). Requests are read from offset \(start) on.")
      if gap.kind != .truncated { position.anchor = nil }
      position.last = nil
    } else {
      let isLost = !requests.lost(among: [partition]).isEmpty
      start =
        (isLost ? requests.regain(partition, committed: committed) : nil) ?? committed
        ?? KafkaOffset.beginning
    }
    position.next = max(start, -1)
    state.withLock { $0.places[partition] = Place(position: position) }
    return start
  }

  /// Begins partitions anew that halted, could not be begun, or whose logs have changed.
  private func beginDue() async throws {
    let isIncremental = consumer.isIncremental
    let partitions = state.withLock { state in
      let due = state.due.filter { state.assigned.contains($0.key) && $0.value <= .now }
      return due.isEmpty ? [] : isIncremental ? due.keys.sorted() : state.assigned.sorted()
    }
    guard !partitions.isEmpty else { return }
    // They are ours: what is under way goes on, unless the group moves meanwhile.
    requests.lose(partitions)
    try await consumer.restart(partitions, at: try await begin(partitions))
    try await pauseAgain()
  }

  private func halt(_ partition: TopicPartition, _ error: KafkaError) {
    logger.warning("\(partition): \(error)")
    let next = requests.marks(of: partition).newest.map { $0.offset + 1 } ?? -1
    state.withLock { $0.due[partition] = .now + $0.halts.pause(of: partition, at: next) }
  }

  // MARK: Logs that change from outside

  /// Holds positions and logs against each other until it is cancelled. An idle consumer would learn nothing by
  /// itself.
  func watch() async {
    var stalls = StallWatch()
    while !Task.isCancelled {
      do {
        try await Task.sleep(for: Self.watchInterval)
        try await look(&stalls)
      } catch {
        // A broker that is away is told of by those who cannot work without.
        logger.debug("positions of requests could not be checked: \(error)")
      }
    }
  }

  private func look(_ stalls: inout StallWatch) async throws {
    let (places, isPaused) = state.withLock { state in
      (state.places.filter { state.due[$0.key] == nil }, state.isPaused)
    }
    var positions: [TopicPartition: LogPosition] = [:]
    for (partition, place) in places {
      let position = known(place.position)
      if position.next >= 0 { positions[partition] = position }
    }
    let views = try await check.views(of: Array(positions.values))
    var fetched: [TopicPartition: (next: Int64, end: Int64)] = [:]
    for (partition, position) in positions {
      guard let view = views[partition] else { continue }
      // What expires behind the consumer's back is told by the fetch.
      if position.gap(in: view)?.isOtherLog == true {
        due(partition)
      } else {
        if !isPaused { fetched[partition] = (position.next, view.high) }
        if view.last == .same { anchor(partition) }
      }
    }
    let stalled = stalls.look(at: fetched, now: .now)
    guard !stalled.isEmpty else { return }
    let offsets = Dictionary(
      stalled.compactMap { partition in fetched[partition].map { (partition, $0.next) } },
      uniquingKeysWith: { $1 })
    for partition in try await check.messages(at: offsets) {
      logger.warning(
        "\(partition): nothing came from offset \(offsets[partition] ?? 0) on for \(Int(StallWatch.limit / .seconds(1))) s though there are messages; it is assigned anew"
      )
      due(partition)
    }
  }

  private func due(_ partition: TopicPartition) {
    state.withLock { state in
      if state.assigned.contains(partition) { state.due[partition] = .now }
    }
  }

  /// The newest message of a log is the one that was read, so those before it are too: the log is known by the last
  /// up to which all is done.
  private func anchor(_ partition: TopicPartition) {
    guard let done = requests.marks(of: partition).done else { return }
    state.withLock { state in
      guard let place = state.places[partition], place.position.anchor != done else { return }
      if let time = place.anchoredAt, .now - time < Self.anchorAge { return }
      state.places[partition]?.position.anchor = done
      state.places[partition]?.anchoredAt = .now
    }
  }
}
