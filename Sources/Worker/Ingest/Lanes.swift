// The lanes of the partitions that this process has: claimed where PostgreSQL stands, held where that does not fit
// the partition's log, and opened anew where an operator or a new log asks for it.

import Foundation
import KafkaClient
import PostgresClient
import Services
import Storage
import StructuredLogging
import Synchronization

final class Lanes: Sendable {
  private struct State {
    /// What the group gave us.
    var assigned: Set<TopicPartition> = []
    var lanes: [TopicPartition: PartitionLane] = [:]
    /// Partitions without a lane, and why; nil: their logs could not be looked at.
    var waiting: [TopicPartition: LogGap?] = [:]
    /// To be opened anew at once.
    var due: Set<TopicPartition> = []
    var opening: Opening?
    /// Of which nothing is taken any more: to be opened anew then, once what was read is written.
    var halted: [TopicPartition: ContinuousClock.Instant] = [:]
    var halts = Halts()
    var paused: Set<TopicPartition> = []
    var committed: [TopicPartition: Int64] = [:]
    var failure: (any Error)?
  }

  /// Partitions that are being opened, which waits for PostgreSQL: polling must not, or the group takes us for dead.
  /// What is read of them meanwhile is read from where they stood before, and is not taken.
  private struct Opening {
    let partitions: [TopicPartition]
    let task: Task<Void, Never>
    var outcome: Result<[TopicPartition: Int64], any Error>?
  }

  private let consumer: KafkaConsumer
  private let check: LogCheck
  private let context: LaneContext
  private let state = Mutex(State())
  /// A lane that is full for longer than this is paused.
  private static let patience = Duration.seconds(1)
  /// A partition that was taken from us, while the group still says it is ours, is claimed anew after that long.
  /// A member that was really replaced is told so by the group before.
  private static let reclaimAfter = Duration.seconds(10)
  /// How long a batch may take to end once its partition is taken away.
  private static let grace = Duration.seconds(10)
  /// How often positions and logs are held against each other.
  private static let watchInterval = Duration.seconds(3)

  init(consumer: KafkaConsumer, check: LogCheck, context: LaneContext) {
    self.consumer = consumer
    self.check = check
    self.context = context
  }

  // MARK: Assignment

  /// Takes partitions that the group gives. They are claimed, and begun where PostgreSQL stands, once it answers.
  func start(_ partitions: [TopicPartition]) async throws {
    state.withLock { state in
      state.assigned.formUnion(partitions)
      state.due.formUnion(partitions)
    }
    try await consumer.assign([:] as [TopicPartition: Int64])
  }

  /// Ends the lanes of partitions that the group takes back.
  func revoke(_ partitions: [TopicPartition]) async {
    await giveUpOpening()
    state.withLock { state in
      state.assigned.subtract(partitions)
      for partition in partitions {
        state.waiting[partition] = nil
        state.halted[partition] = nil
      }
    }
    await stop(partitions)
  }

  /// What was being opened is due again.
  private func giveUpOpening() async {
    guard let opening = state.withLock({ $0.opening }) else { return }
    opening.task.cancel()
    await opening.task.value
    state.withLock { state in
      state.opening = nil
      state.due.formUnion(opening.partitions)
    }
  }

  /// Ends all lanes, and opens none any more.
  func stop() async {
    await giveUpOpening()
    await stop(nil)
  }

  /// Ends lanes, all of them where none are named; returns when their batches in hand are written or given up.
  private func stop(_ partitions: [TopicPartition]?) async {
    let ended = state.withLock { state in
      let names = partitions ?? Array(state.lanes.keys)
      state.paused.subtract(names)
      return names.compactMap { state.lanes.removeValue(forKey: $0) }
    }
    await withTaskGroup(of: Void.self) { group in
      for lane in ended { group.addTask { await lane.stop(grace: Self.grace) } }
    }
    let offsets = Dictionary(
      ended.filter { $0.next >= 0 }.map { ($0.partition, $0.next) }, uniquingKeysWith: { $1 })
    await commit(offsets)
  }

  /// Claims partitions and opens their lanes; returns where each begins that does not wait.
  private func open(_ partitions: [TopicPartition]) async throws -> [TopicPartition: Int64] {
    await stop(partitions)
    var offsets: [TopicPartition: Int64] = [:]
    for (topic, group) in Dictionary(grouping: partitions, by: \.topic) {
      let claims = try await retryingDatabase("claiming partitions", logger: context.logger) {
        try await context.repository.claim(topic: topic, partitions: group.map(\.partition))
      }
      let views = try await views(of: claims)
      for claim in claims {
        let partition = claim.position.topicPartition
        guard let position = try await begin(claim, views[partition]) else { continue }
        let lane = PartitionLane(position, epoch: claim.epoch, context: context) {
          [weak self] error in
          self?.state.withLock { $0.failure = $0.failure ?? error }
        }
        offsets[partition] = position.next < 0 ? KafkaOffset.beginning : position.next
        state.withLock { state in
          state.waiting[partition] = nil
          state.lanes[partition] = lane
        }
      }
    }
    return offsets
  }

  private func views(
    of claims: [IngestRepository.Claim]
  ) async throws -> [TopicPartition: LogView] {
    do {
      return try await check.views(of: claims.map(\.position).filter { $0.next >= 0 })
    } catch let error as KafkaError where !error.isFatal {
      context.logger.warning("the broker's offsets could not be looked at: \(error)")
      return [:]
    }
  }

  /// Where a claimed partition continues; nil: it waits.
  private func begin(
    _ claim: IngestRepository.Claim, _ view: LogView?
  ) async throws -> LogPosition? {
    let partition = claim.position.topicPartition
    guard claim.nextOffset >= 0 else { return claim.position }
    guard let view else {
      // Nothing is read on an offset that may mean another message.
      state.withLock { $0.waiting[partition] = .some(nil) }
      return nil
    }
    let context = context
    do {
      return try await retryingDatabase("claiming partitions", logger: context.logger) {
        guard let gap = claim.position.gap(in: view) else {
          if claim.gap != nil { try await context.repository.hold(claim, for: nil) }
          return claim.position
        }
        guard let onward = context.settings.onOffsetGap.resolve(gap) else {
          try await context.repository.hold(claim, for: gap)
          say(gap, of: partition)
          return nil
        }
        let position = try await context.repository.move(
          claim, to: onward.next, missing: onward.missing, isOtherLog: gap.isOtherLog)
        context.logger.error(
          "\(partition): \(gap.description); going on at \(onward.next) (ingest.onOffsetGap), \(onward.missing) messages are missing"
        )
        return position
      }
    } catch let error as ZombieConsumerError {
      context.logger.warning("\(error)")
      state.withLock { $0.waiting[partition] = .some(nil) }
      return nil
    }
  }

  /// Says once why a partition waits.
  private func say(_ gap: LogGap, of partition: TopicPartition) {
    let isNew = state.withLock { state in
      let known = state.waiting.updateValue(gap, forKey: partition) ?? nil
      return known?.kind != gap.kind || known?.next != gap.next
    }
    guard isNew else { return }
    context.logger.error(
      "\(partition): \(gap.description). The partition waits. To read what there is: \(gap.command(partition: partition.partition))"
    )
  }

  // MARK: Messages

  /// Gives each lane its messages.
  func deal(_ messages: [KafkaMessage]) {
    let lanes = state.withLock { state in
      let opening = Set(state.opening?.partitions ?? [])
      return state.lanes.filter { state.halted[$0.key] == nil && !opening.contains($0.key) }
    }
    var start = messages.startIndex
    while start < messages.endIndex {
      let partition = messages[start].partition
      var end = start + 1
      while end < messages.endIndex, messages[end].partition == partition { end += 1 }
      // A partition that was lost between fetch and now belongs to somebody else; of one that has halted what
      // comes next is not what comes.
      lanes[messages[start].topicPartition]?.give(messages[start..<end])
      start = end
    }
  }

  /// Takes nothing more of a partition for a while, after which it is opened anew.
  func halt(_ partition: TopicPartition, _ error: KafkaError) {
    context.logger.warning("\(partition): \(error)")
    state.withLock { state in
      let next = state.lanes[partition]?.next ?? -1
      state.halted[partition] = .now + state.halts.pause(of: partition, at: next)
    }
  }

  /// Waits a little for lanes that are full, pauses those that stay so and resumes those that are not.
  /// - Returns: false while a lane is paused, or partitions are being opened.
  /// - Throws: what ended a lane.
  func makeRoom() async throws -> Bool {
    try await openAnew()
    let limits = context.limits
    let deadline = ContinuousClock.now + Self.patience
    var full: [TopicPartition] = []
    repeat {
      if let failure = state.withLock({ $0.failure }) { throw failure }
      full = state.withLock { state in
        state.lanes.filter { !state.paused.contains($0.key) && $0.value.queue.holds(2, of: limits) }
          .map(\.key)
      }
      if full.isEmpty { break }
      try await Task.sleep(for: .milliseconds(2))
    } while ContinuousClock.now < deadline
    if !full.isEmpty {
      state.withLock { $0.paused.formUnion(full) }
      try await consumer.pause(full)
      context.logger.debug("paused", metadata: ["partitions": "\(full)"])
    }
    let free = state.withLock { state in
      state.paused.filter { state.lanes[$0].map { !$0.queue.holds(1, of: limits) } ?? true }
    }
    if !free.isEmpty {
      state.withLock { $0.paused.subtract(free) }
      try await consumer.resume(Array(free))
      context.logger.debug("resumed", metadata: ["partitions": "\(free)"])
    }
    return state.withLock { $0.paused.isEmpty && $0.opening == nil }
  }

  /// Tells Kafka how far PostgreSQL is.
  func commit() async {
    let offsets = state.withLock { state in
      state.lanes.mapValues(\.next).filter { $0.value >= 0 && state.committed[$0.key] != $0.value }
    }
    await commit(offsets)
  }

  private func commit(_ offsets: [TopicPartition: Int64]) async {
    guard !offsets.isEmpty else { return }
    do {
      try await consumer.commit(offsets)
      state.withLock { $0.committed.merge(offsets) { $1 } }
    } catch {
      // Advisory only: the truth is in PostgreSQL.
      context.logger.debug("offsets not committed to Kafka: \(error)")
    }
  }

  // MARK: Positions that change from outside

  /// Opens partitions that the group gave, that were taken from us, that an operator moved, or whose logs have
  /// changed; begins those that are open.
  private func openAnew() async throws {
    if let opening = state.withLock({ $0.opening }) {
      guard let outcome = opening.outcome else { return }
      try await consumer.restart(opening.partitions, at: try outcome.get())
      state.withLock { $0.opening = nil }
    }
    let isIncremental = consumer.isIncremental
    let partitions = state.withLock { state in
      var found = state.due
      found.formUnion(state.lanes.filter { $0.value.isLost(for: Self.reclaimAfter) }.map(\.key))
      found.formUnion(
        state.halted.filter { partition, time in
          time <= .now && state.lanes[partition]?.isDrained ?? true
        }.map(\.key))
      found.formIntersection(state.assigned)
      state.due = []
      if found.isEmpty { return found }
      if !isIncremental { found = state.assigned }
      for partition in found { state.halted[partition] = nil }
      return found
    }
    guard !partitions.isEmpty else { return }
    context.logger.info("opening partitions", metadata: ["partitions": "\(partitions)"])
    let names = partitions.sorted()
    state.withLock { state in
      let task = Task { [weak self] in
        guard let self else { return }
        let outcome: Result<[TopicPartition: Int64], any Error>
        do { outcome = .success(try await open(names)) } catch { outcome = .failure(error) }
        self.state.withLock { $0.opening?.outcome = outcome }
      }
      state.opening = Opening(partitions: names, task: task)
    }
  }

  /// Holds positions and logs against each other until it is cancelled. An idle lane would learn nothing by itself.
  func watch(topic: String) async {
    var stalls = StallWatch()
    while !Task.isCancelled {
      do {
        try await Task.sleep(for: Self.watchInterval)
        try await look(topic, &stalls)
      } catch {
        // A broker or a database that is away is told of by those who cannot work without.
        context.logger.debug("positions could not be checked: \(error)")
      }
    }
  }

  private func look(_ topic: String, _ stalls: inout StallWatch) async throws {
    let (assigned, lanes, waiting) = state.withLock { ($0.assigned, $0.lanes, $0.waiting) }
    guard !assigned.isEmpty else { return }
    let standing = try await context.repository.standing(topic: topic).filter {
      assigned.contains($0.claim.position.topicPartition)
    }
    // Who else has claimed a partition may well be its new owner, of whom the group is about to tell us.
    for (claim, isReleased) in standing where isReleased {
      note(due: claim.position.topicPartition)
    }
    let claims = standing.filter { !$0.isReleased && $0.claim.nextOffset >= 0 }.map(\.claim)
    let views = try await check.views(of: claims.map(\.position))
    for claim in claims {
      let partition = claim.position.topicPartition
      guard let view = views[partition] else { continue }
      let gap = claim.position.gap(in: view)
      if let lane = lanes[partition] {
        // What expires behind the lane's back is told by the fetch: it may have more in hand than is written.
        if lane.epoch == claim.epoch, gap?.isOtherLog == true { note(due: partition) }
      } else if let known = waiting[partition], known != gap || gap == nil {
        if let gap, let known, known.kind == gap.kind {
          try await context.repository.hold(claim, for: gap)
          say(gap, of: partition)
        } else {
          note(due: partition)
        }
      }
      if gap == nil, view.anchor == .gone, view.last == .same {
        try await context.repository.anchor(claim)
      }
    }
    try await wake(stalls.look(at: fetched(views), now: .now))
  }

  /// Where the partitions stand that are fetched, and where their logs end.
  private func fetched(
    _ views: [TopicPartition: LogView]
  ) -> [TopicPartition: (next: Int64, end: Int64)] {
    state.withLock { state in
      var fetched: [TopicPartition: (next: Int64, end: Int64)] = [:]
      for (partition, lane) in state.lanes
      where !state.paused.contains(partition) && state.halted[partition] == nil {
        guard let view = views[partition], lane.given >= 0 else { continue }
        fetched[partition] = (lane.given, view.high)
      }
      return fetched
    }
  }

  /// Assigns partitions anew of which nothing came for a minute, where there is a message: the rest of a log may be
  /// ends of transactions.
  private func wake(_ partitions: [TopicPartition]) async throws {
    guard !partitions.isEmpty else { return }
    let places = state.withLock { state in
      Dictionary(
        partitions.compactMap { partition in
          state.lanes[partition].map { (partition, $0.given) }
        }, uniquingKeysWith: { $1 })
    }
    for partition in try await check.messages(at: places) {
      context.logger.warning(
        "\(partition): nothing came from offset \(places[partition] ?? 0) on for \(Int(StallWatch.limit / .seconds(1))) s though there are messages; it is assigned anew"
      )
      note(due: partition)
    }
  }

  private func note(due partition: TopicPartition) {
    _ = state.withLock { $0.due.insert(partition) }
  }
}
