// A member of a consumer group, pulled by its caller.

import CRDKafka
import Foundation
import StructuredLogging
import Synchronization

/// What happened next on a consumer.
public enum ConsumerEvent: Sendable {
  /// The group gave these partitions; answer with `assign`. In a cooperative group they come to
  /// those held already.
  case assigned([TopicPartition])
  /// The group takes these partitions back; answer with `unassign`. In a cooperative group others
  /// may stay. If `lost`, another member may own them already, so nothing more can be committed.
  case revoked([TopicPartition], lost: Bool)
  /// In each partition, in the order of offsets.
  case messages([KafkaMessage])
  /// What comes of an assigned partition from here on, if anything, is not what is next: its log does not have
  /// that offset, and `auto.offset.reset` is `error`; or librdkafka lost its place in damaged bytes. It goes on by
  /// `restart`.
  case halted(TopicPartition, KafkaError)
  /// Nothing happened within the timeout.
  case idle
}

/// A consumer of a group.
///
/// The caller pulls with `next` from one task and answers `.assigned` and `.revoked` at once: the
/// group waits for the answers. Between calls librdkafka keeps up heartbeats and fetches ahead into
/// its own bounded queue; a caller that stays away longer than `max.poll.interval.ms` (5 minutes)
/// loses its partitions.
/// Defaults: nothing is committed by itself, a group without offsets starts at the earliest
/// message, and rebalances are eager (all partitions are revoked, then assigned anew). With
/// `partition.assignment.strategy=cooperative-sticky` or `group.protocol=consumer`, which need a newer
/// librdkafka (`KafkaLibraryPolicy`), only what moves is revoked and assigned.
public final class KafkaConsumer: Sendable {
  private let handle: KafkaHandle
  /// `next` has a thread of its own, so that a commit need not wait for a poll to time out.
  private let polling = BlockingQueue(label: "oppu.kafka.poll")
  private let control = BlockingQueue(label: "oppu.kafka.control")
  /// An event that ended a batch of messages and is due at the next call.
  private let due = Mutex<ConsumerEvent?>(nil)
  private let isClosed = Atomic(false)
  private let idleRest: Duration
  /// Whether it reads outside any group, for somebody who waits.
  private let isReader: Bool
  /// What the caller has paused; a rest between fetches must not resume it.
  private let paused = Mutex<Set<TopicPartition>>([])
  /// Partitions of which all was fetched that there is, as far as is known since the last rest.
  private let ended = Mutex<Set<TopicPartition>>([])
  /// Bytes of values that `next` returns at most, but for the last message.
  private static let maximumBytes = 32 << 20
  /// How long a consumer with an `idleRest` listens between two rests.
  private static let listening = Duration.milliseconds(50)

  /// - Parameters:
  ///   - topics: names, or patterns that start with `^`; none: the group is not joined.
  ///   - properties: librdkafka's, over those of `configuration`.
  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  public init(
    configuration: KafkaConfiguration, group: String, topics: [String],
    properties: [String: String] = [:], logger: Logger = Logger(label: "oppu.kafka")
  ) throws {
    var configuration = configuration
    configuration.properties.merge(properties) { $1 }
    idleRest = configuration.idleRest
    // Told only where it is listened to: a rest comes after a fetch that found nothing.
    let endsAreTold = ["enable.partition.eof": idleRest > .zero ? "true" : "false"]
    var defaults = [
      "enable.auto.commit": "false", "enable.auto.offset.store": "false",
      "auto.offset.reset": "earliest", "topic.metadata.refresh.interval.ms": "10000",
      "queued.max.messages.kbytes": "16384",
    ]
    if !configuration.usesConsumerProtocol {
      defaults["partition.assignment.strategy"] = "range,roundrobin"
    }
    isReader = topics.isEmpty
    handle = try KafkaHandle(
      RD_KAFKA_CONSUMER, configuration, defaults: defaults,
      forced: endsAreTold.merging(["group.id": group]) { $1 },
      events: RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_OFFSET_COMMIT,
      logger: logger)
    if topics.isEmpty { return }
    let list = PartitionList(topics.map { TopicPartition(topic: $0, partition: -1) })
    let code = list.withPointer { rd_kafka_subscribe(handle.client, $0) }
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
      throw KafkaError(code, topic: topics.joined(separator: ", "))
    }
  }

  /// Waits for the next event: up to `timeout` for the first message, then takes what is there.
  ///
  /// - Throws: `KafkaError` if the consumer has failed for good (`isFatal`) or is closed;
  ///   `CancellationError` if the task is cancelled before anything was taken.
  public func next(
    maximumMessages: Int = 500, timeout: Duration
  ) async throws -> ConsumerEvent {
    let isCancelled = Flag()
    return try await withTaskCancellationHandler {
      try Task.checkCancellation()
      return try await polling.run { [self] in
        try pull(max(1, maximumMessages), timeout, isCancelled)
      }
    } onCancel: {
      isCancelled.raise()
    }
  }

  private func pull(
    _ maximum: Int, _ timeout: Duration, _ isCancelled: Flag
  ) throws -> ConsumerEvent {
    try checkOpen()
    if let event = due.withLock({ event in
      defer { event = nil }
      return event
    }) {
      return event
    }
    let deadline = ContinuousClock.now + timeout
    var messages: [KafkaMessage] = []
    var topics = TopicNames()
    var bytes = 0
    var isAtEnd = false
    while messages.count < maximum, bytes < Self.maximumBytes {
      // Waits in slices, so that a cancelled caller is not kept waiting.
      let left = messages.isEmpty ? deadline - ContinuousClock.now : .zero
      let slice = idleRest > .zero ? Self.listening : .milliseconds(100)
      let event = handle.poll(isAtEnd ? .zero : min(left, slice)) ?? rest(atMost: left)
      isAtEnd = false
      guard let event else {
        if !messages.isEmpty { break }
        if isCancelled.isRaised { throw CancellationError() }
        if isClosed.load(ordering: .acquiring) || left <= .zero { return .idle }
        continue
      }
      defer { rd_kafka_event_destroy(event) }
      switch rd_kafka_event_type(event) {
      case RD_KAFKA_EVENT_FETCH:
        while let message = rd_kafka_event_message_next(event) {
          guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
            handle.logger.warning("\(KafkaError(message.pointee.err))")
            continue
          }
          bytes += message.pointee.len
          messages.append(KafkaMessage(copying: message, topic: topics.name(of: message)))
        }
        if idleRest > .zero, let last = messages.last {
          _ = ended.withLock { $0.remove(last.topicPartition) }
        }
      case RD_KAFKA_EVENT_REBALANCE:
        let rebalance = try rebalanceEvent(event)
        if messages.isEmpty { return rebalance }
        due.withLock { $0 = rebalance }
        return .messages(messages)
      case RD_KAFKA_EVENT_ERROR
      where rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if let partition = KafkaHandle.partition(of: event) {
          _ = ended.withLock { $0.insert(partition) }
        }
        isAtEnd = true  // perhaps of the last one: then the rest begins at once
      case RD_KAFKA_EVENT_ERROR where halts(rd_kafka_event_error(event)):
        guard let partition = KafkaHandle.partition(of: event) else { continue }
        let isForbidden =
          rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        let reason =
          isForbidden
          ? "this user may not read the topic: the right Read on \(partition.topic) is missing"
          : rd_kafka_event_error_string(event).map { String(cString: $0) }
        let halted = ConsumerEvent.halted(
          partition, KafkaError(rd_kafka_event_error(event), reason))
        if messages.isEmpty { return halted }
        due.withLock { $0 = halted }
        return .messages(messages)
      case RD_KAFKA_EVENT_ERROR where isReader:
        let error = KafkaError(
          rd_kafka_event_error(event), topic: KafkaHandle.partition(of: event)?.topic)
        if error.isForbidden { throw error }
        try handle.report(event)
      default: try handle.report(event)
      }
    }
    return .messages(messages)
  }

  /// With `check.crcs` librdkafka 2.0 refuses a damaged batch and fetches it again. Now and then it misses where the
  /// next batch begins, finds a message of a kind that does not exist, and goes on at an offset made of chance bytes.
  ///
  /// That a topic may not be read it says once. A partition that halts and is begun again has it said each time. For
  /// a reader outside groups it is an error.
  private func halts(_ code: rd_kafka_resp_err_t) -> Bool {
    code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || code == RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
      || (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED && !isReader)
  }

  /// Stops fetching for a while where a rest is configured and everything was fetched that there is, and returns
  /// what the group said meanwhile. A rest discards what is on its way: before its end was seen a partition may
  /// have a large message to bring, or look for the place where its log begins now.
  private func rest(atMost left: Duration) -> OpaquePointer? {
    guard idleRest > .zero, left > .zero else { return nil }
    let fetched = Self.assignment(handle.client).subtracting(paused.withLock { $0 })
    guard !fetched.isEmpty, ended.withLock({ fetched.isSubset(of: $0) }) else { return nil }
    let list = PartitionList(fetched)
    _ = list.withPointer { rd_kafka_pause_partitions(handle.client, $0) }
    let event = handle.poll(min(left, idleRest))
    // A partition that was taken away meanwhile gives an error of its own, which is harmless.
    paused.withLock { paused in
      _ = PartitionList(fetched.subtracting(paused)).withPointer {
        rd_kafka_resume_partitions(handle.client, $0)
      }
    }
    ended.withLock { $0 = [] }
    // librdkafka's broker thread may sleep for a second before it sees the change; a request wakes it.
    if let first = fetched.first {
      _ = try? logOffsets(handle.client, of: [first], at: KafkaOffset.end, .seconds(1))
    }
    return event
  }

  private func rebalanceEvent(_ event: OpaquePointer) throws -> ConsumerEvent {
    let partitions = rd_kafka_event_topic_partition_list(event).map {
      PartitionList.offsets(of: $0).keys.sorted()
    }
    let code = rd_kafka_event_error(event)
    switch code {
    case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS: return .assigned(partitions ?? [])
    case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
      return .revoked(
        partitions ?? [], lost: rd_kafka_assignment_lost(handle.client) != 0)
    default:
      // The group's protocol went wrong: give everything back and join anew.
      forgetPauses(handle.client, of: paused.withLock { Array($0) })
      rd_kafka_assign(handle.client, nil)
      handle.logger.warning("rebalance failed: \(KafkaError(code))")
      return .revoked(partitions ?? [], lost: true)
    }
  }

  // MARK: Answers and commands

  /// Starts reading partitions at offsets: the answer to `.assigned`.
  ///
  /// - Parameter offsets: the next offset to read of every partition, or one of `KafkaOffset`.
  /// - Throws: `KafkaError`.
  public func assign(_ offsets: [TopicPartition: Int64]) async throws {
    try await command { client in
      let list = PartitionList(offsets)
      guard Self.isCooperative(client) else {
        return try check(list.withPointer { rd_kafka_assign(client, $0) })
      }
      if let error = list.withPointer({ rd_kafka_incremental_assign(client, $0) }) {
        throw KafkaError(owning: error)
      }
    }
  }

  /// Reads partitions without being a member of the group.
  func begin(_ offsets: [TopicPartition: Int64]) throws {
    try check(PartitionList(offsets).withPointer { rd_kafka_assign(handle.client, $0) })
  }

  /// Stops reading: the answer to `.revoked`.
  ///
  /// - Parameter partitions: those of the event; in an eager group they are all.
  /// - Throws: `KafkaError`.
  public func unassign(_ partitions: [TopicPartition]) async throws {
    try await command { [self] client in
      forgetPauses(client, of: partitions)
      try Self.unassign(partitions, client)
    }
  }

  /// librdkafka keeps a pause beyond an assignment: a partition that came back would stand still for good.
  /// Resumed before it goes, for a resumption afterwards would move it to where it stood.
  private func forgetPauses(_ client: OpaquePointer, of partitions: [TopicPartition]) {
    let ended = paused.withLock { paused in
      let ended = paused.intersection(partitions)
      paused.subtract(ended)
      return ended
    }
    guard !ended.isEmpty else { return }
    _ = PartitionList(Array(ended)).withPointer { rd_kafka_resume_partitions(client, $0) }
  }

  private static func unassign(_ partitions: [TopicPartition], _ client: OpaquePointer) throws {
    guard isCooperative(client) else { return try check(rd_kafka_assign(client, nil)) }
    // What a `restart` left out is not assigned any more, and may not be unassigned.
    let read = assignment(client).intersection(partitions)
    let error = PartitionList(read).withPointer { rd_kafka_incremental_unassign(client, $0) }
    if let error { throw KafkaError(owning: error) }
  }

  private static func assignment(_ client: OpaquePointer) -> Set<TopicPartition> {
    var list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
    guard rd_kafka_assignment(client, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else {
      return []
    }
    defer { rd_kafka_topic_partition_list_destroy(list) }
    return Set(PartitionList.offsets(of: list).keys)
  }

  /// Whether the group moves single partitions; if not, `restart` takes all that the group gave.
  public var isIncremental: Bool { Self.isCooperative(handle.client) }

  /// Reads partitions that the group gave anew, also such as are out of range, and leaves those without an offset
  /// alone until they are restarted with one. The group membership stays.
  ///
  /// - Parameters:
  ///   - partitions: unless `isIncremental`, all that the group gave.
  ///   - offsets: the next offset to read, or one of `KafkaOffset`.
  /// - Throws: `KafkaError`.
  public func restart(
    _ partitions: [TopicPartition], at offsets: [TopicPartition: Int64]
  ) async throws {
    try await command { [self] client in
      forgetPauses(client, of: partitions)
      let list = PartitionList(offsets)
      guard Self.isCooperative(client) else {
        return try check(list.withPointer { rd_kafka_assign(client, $0) })
      }
      try Self.unassign(partitions, client)
      if let error = list.withPointer({ rd_kafka_incremental_assign(client, $0) }) {
        throw KafkaError(owning: error)
      }
    }
  }

  /// Whether the group has agreed on incremental rebalances.
  private static func isCooperative(_ client: OpaquePointer) -> Bool {
    rd_kafka_rebalance_protocol(client).map { String(cString: $0) } == "COOPERATIVE"
  }

  /// Commits the next offsets to read, and waits for the broker.
  ///
  /// - Throws: `KafkaError`; if `isRebalance`, the partitions have a new owner and the caller may
  ///   go on. If the broker does not answer in 20 s, `isRetriable`.
  public func commit(_ offsets: [TopicPartition: Int64]) async throws {
    try await commit(offsets.mapValues { GroupOffset(next: $0) })
  }

  /// Commits the next offsets to read with what is kept with them, and waits for the broker.
  ///
  /// - Throws: as the other.
  public func commit(_ offsets: [TopicPartition: GroupOffset]) async throws {
    if offsets.isEmpty { return }
    try await command { client in
      let queue = rd_kafka_queue_new(client)
      defer { rd_kafka_queue_destroy(queue) }
      try check(
        PartitionList(offsets).withPointer {
          rd_kafka_commit_queue(client, $0, queue, nil, nil)
        })
      guard let event = rd_kafka_queue_poll(queue, 20_000) else {
        throw KafkaError(
          RD_KAFKA_RESP_ERR__TIMED_OUT, "the broker did not answer a commit in 20 s")
      }
      defer { rd_kafka_event_destroy(event) }
      try check(rd_kafka_event_error(event))
      guard let list = rd_kafka_event_topic_partition_list(event) else { return }
      try PartitionList.checkErrors(in: list)
    }
  }

  /// Continues assigned partitions at other offsets. Messages that `next` returned before stay
  /// returned.
  ///
  /// - Throws: `KafkaError`.
  public func seek(_ offsets: [TopicPartition: Int64]) async throws {
    try await command { client in
      let list = PartitionList(offsets)
      // librdkafka 2.0 gives up a thousand times too early; repeating a seek does no harm.
      let deadline = ContinuousClock.now + .seconds(10)
      while let error = list.withPointer({ rd_kafka_seek_partitions(client, $0, 10_000) }) {
        let error = KafkaError(owning: error)
        let isEarly = error.code == RD_KAFKA_RESP_ERR__TIMED_OUT.rawValue
        guard isEarly, ContinuousClock.now < deadline else { throw error }
      }
      try list.checkErrors()
    }
  }

  /// Stops fetching assigned partitions until `resume`; the group membership stays.
  ///
  /// - Throws: `KafkaError`.
  public func pause(_ partitions: [TopicPartition]) async throws {
    try await command { client in
      let list = PartitionList(partitions)
      try check(list.withPointer { rd_kafka_pause_partitions(client, $0) })
      try list.checkErrors()
    }
    paused.withLock { $0.formUnion(partitions) }
  }

  /// - Throws: `KafkaError`.
  public func resume(_ partitions: [TopicPartition]) async throws {
    paused.withLock { $0.subtract(partitions) }
    try await command { client in
      let list = PartitionList(partitions)
      try check(list.withPointer { rd_kafka_resume_partitions(client, $0) })
      try list.checkErrors()
    }
  }

  /// What the group has committed, of partitions where it has.
  ///
  /// - Throws: `KafkaError`.
  public func committed(
    _ partitions: [TopicPartition], timeout: Duration = .seconds(5)
  ) async throws -> [TopicPartition: GroupOffset] {
    if partitions.isEmpty { return [:] }
    return try await command { client in
      let list = PartitionList(partitions)
      try check(list.withPointer { rd_kafka_committed(client, $0, timeout.milliseconds) })
      try list.checkErrors()
      return list.withPointer { PartitionList.groupOffsets(of: $0) }
    }
  }

  /// The offset after the last message that `next` returned, of partitions that returned any.
  ///
  /// - Throws: `KafkaError`.
  public func position(of partitions: [TopicPartition]) async throws -> [TopicPartition: Int64] {
    try await command { client in
      let list = PartitionList(partitions)
      try check(list.withPointer { rd_kafka_position(client, $0) })
      return list.offsets.filter { $0.value >= 0 }
    }
  }

  /// The first offset that the broker has and the next one to be written.
  ///
  /// - Throws: `KafkaError`.
  public func watermarks(
    of partition: TopicPartition, timeout: Duration = .seconds(10)
  ) async throws -> (low: Int64, high: Int64) {
    try await command { try KafkaClient.watermarks($0, partition, timeout) }
  }

  /// Leaves the group and ends the consumer; a `next` that waits returns. Takes at most some 10 s.
  public func close() async {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let work: @Sendable () throws -> Void = { [handle] in
      // One that has failed for good is no member any more.
      if handle.fatalError() != nil { return }
      if let error = rd_kafka_consumer_close_queue(handle.client, handle.queue) {
        handle.logger.warning("closing a consumer: \(KafkaError(owning: error))")
        return
      }
      let deadline = ContinuousClock.now + .seconds(10)
      while rd_kafka_consumer_closed(handle.client) == 0, ContinuousClock.now < deadline {
        guard let event = handle.poll(.milliseconds(100)) else { continue }
        defer { rd_kafka_event_destroy(event) }
        // Giving the partitions back is part of leaving.
        if rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE {
          let partitions = rd_kafka_event_topic_partition_list(event)
            .map { PartitionList.offsets(of: $0).keys.sorted() }
          try? Self.unassign(partitions ?? [], handle.client)  // it leaves the group anyway
        } else {
          try? handle.report(event)  // a client that is being closed may well have failed
        }
      }
    }
    try? await polling.run(work)  // `work` throws nothing
  }

  private func command<T: Sendable>(
    _ work: @escaping @Sendable (OpaquePointer) throws -> T
  ) async throws -> T {
    try await control.run { [self] in
      try checkOpen()
      do { return try work(handle.client) } catch let error as KafkaError {
        // librdkafka only says that it has failed before; why is what tells what can be done.
        throw error.code == RD_KAFKA_RESP_ERR__FATAL.rawValue ? handle.fatalError() ?? error : error
      }
    }
  }

  private func checkOpen() throws {
    if isClosed.load(ordering: .acquiring) {
      throw KafkaError(RD_KAFKA_RESP_ERR__STATE, "the consumer is closed", isFatal: true)
    }
  }
}

/// A flag that any thread may raise.
private final class Flag: Sendable {
  private let value = Atomic(false)
  func raise() { value.store(true, ordering: .relaxed) }
  var isRaised: Bool { value.load(ordering: .relaxed) }
}

/// The names of topics by librdkafka's topic object: one string per batch, not one per message.
private struct TopicNames {
  private var names: [OpaquePointer: String] = [:]

  mutating func name(of message: UnsafePointer<rd_kafka_message_t>) -> String {
    guard let topic = message.pointee.rkt else { return "" }
    if let name = names[topic] { return name }
    let name = String(cString: rd_kafka_topic_name(topic))
    names[topic] = name
    return name
  }
}

func check(_ code: rd_kafka_resp_err_t, topic: String? = nil) throws {
  if code != RD_KAFKA_RESP_ERR_NO_ERROR { throw KafkaError(code, topic: topic) }
}
