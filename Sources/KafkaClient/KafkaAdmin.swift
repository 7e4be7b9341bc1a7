// Topics, offsets and reachability: the calls of an operator.

import CRDKafka
import Foundation
import StructuredLogging

/// A topic to make.
public struct NewTopic: Sendable, Hashable {
  public var name: String
  /// At least 1; -1 leaves it to the broker.
  public var partitions: Int32
  /// -1 leaves it to the broker.
  public var replication: Int32
  /// Kafka's topic settings, such as `retention.ms`.
  public var configuration: [String: String]

  public init(
    name: String, partitions: Int32, replication: Int32 = -1, configuration: [String: String] = [:]
  ) {
    self.name = name
    self.partitions = partitions
    self.replication = replication
    self.configuration = configuration
  }
}

/// What became of a topic that was to be made.
public enum TopicCreation: Sendable, Hashable {
  case created
  case alreadyExists
  case failed(KafkaError)
}

/// A topic as the broker lists it.
public struct TopicDescription: Sendable, Hashable {
  public var name: String
  /// 0 where the broker cannot say, as while it makes or deletes the topic.
  public var partitionCount: Int
}

/// Whether a topic is there.
public enum TopicPresence: Sendable, Hashable {
  case exists(partitions: Int)
  case missing
  /// Whether it is there may not be known: Describe is not allowed.
  case hidden
}

/// An admin client. Every call is bounded by its timeout.
public final class KafkaAdmin: Sendable {
  private let handle: KafkaHandle
  private let configuration: KafkaConfiguration
  private let pump = EventPump()
  private let blocking = BlockingQueue(label: "oppu.kafka.admin")

  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  public init(
    configuration: KafkaConfiguration, logger: Logger = Logger(label: "oppu.kafka")
  ) throws {
    self.configuration = configuration
    handle = try KafkaHandle(
      RD_KAFKA_PRODUCER, configuration, defaults: [:], events: 0, logger: logger)
    pump.start(handle) { _ in }
  }

  deinit { pump.stop() }

  /// Checks that a broker answers.
  ///
  /// - Throws: `KafkaError` naming the addresses.
  public func ping(timeout: Duration = .seconds(5)) async throws {
    try await metadata(allTopics: false, timeout) { _ in }
  }

  /// All topics, by name.
  ///
  /// - Throws: `KafkaError`.
  public func listTopics(timeout: Duration = .seconds(10)) async throws -> [TopicDescription] {
    try await metadata(allTopics: true, timeout) { metadata in
      UnsafeBufferPointer(start: metadata.topics, count: Int(metadata.topic_cnt)).map {
        TopicDescription(name: String(cString: $0.topic), partitionCount: Int($0.partition_cnt))
      }.sorted { $0.name < $1.name }
    }
  }

  /// Whether these topics are there. None comes to be by asking.
  ///
  /// - Throws: `KafkaError`.
  public func presence(
    of names: [String], timeout: Duration = .seconds(10)
  ) async throws -> [String: TopicPresence] {
    let listed = Dictionary(
      try await listTopics(timeout: timeout).map { ($0.name, $0.partitionCount) },
      uniquingKeysWith: { first, _ in first })
    var presence: [String: TopicPresence] = [:]
    for name in names { presence[name] = listed[name].map { .exists(partitions: $0) } ?? .missing }
    // A list leaves out what may not be seen; asked for by name it is told. Consumers ask without making topics.
    let left = names.filter { presence[$0] == .missing }
    if left.isEmpty { return presence }
    let asking = try KafkaHandle(
      RD_KAFKA_CONSUMER, configuration.withoutMembership, defaults: [:],
      forced: ["allow.auto.create.topics": "false", "group.id": "oppu-asks"], events: 0,
      logger: handle.logger)
    let hidden = try await blocking.run {
      try left.filter { name in
        guard let native = rd_kafka_topic_new(asking.client, name, nil) else { return false }
        defer { rd_kafka_topic_destroy(native) }
        var metadata: UnsafePointer<rd_kafka_metadata>?
        try check(
          rd_kafka_metadata(asking.client, 0, native, &metadata, timeout.milliseconds), topic: name)
        guard let metadata else { return false }
        defer { rd_kafka_metadata_destroy(metadata) }
        return metadata.pointee.topic_cnt > 0
          && metadata.pointee.topics?.pointee.err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
      }
    }
    for name in hidden { presence[name] = .hidden }
    return presence
  }

  /// Whether a group may be used by this client; what a broker cannot be asked counts as allowed.
  public func mayUse(group: String, topic: String) async -> Bool {
    do {
      _ = try await committedOffsets(
        group: group, of: [TopicPartition(topic: topic, partition: 0)], timeout: .seconds(5))
      return true
    } catch let error as KafkaError { return !error.isForbiddenGroup } catch { return true }
  }

  /// Makes topics that do not exist; the result has one entry per name.
  ///
  /// - Throws: `KafkaError` if the request as a whole failed or a name or count is impossible.
  public func createTopics(
    _ topics: [NewTopic], timeout: Duration = .seconds(15)
  ) async throws -> [String: TopicCreation] {
    if topics.isEmpty { return [:] }
    let results = try await blocking.run { [self] in
      var natives: [OpaquePointer?] = []
      defer { for native in natives { rd_kafka_NewTopic_destroy(native) } }
      for topic in topics { natives.append(try makeNative(topic)) }
      return try perform(RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout) { options, queue in
        rd_kafka_CreateTopics(handle.client, &natives, natives.count, options, queue)
      } read: { event in
        var count = 0
        let results = rd_kafka_CreateTopics_result_topics(
          rd_kafka_event_CreateTopics_result(event), &count)
        return Self.topicResults(results, count).mapValues { error -> TopicCreation in
          guard let error else { return .created }
          let exists = RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS.rawValue
          return error.code == exists ? .alreadyExists : .failed(error)
        }
      }
    }
    await settle(of: Set(results.filter { $0.value == .created }.keys), isThere: true)
    return results
  }

  /// A topic that the controller has made or deleted is so for the other brokers, and for the threads that answer,
  /// a moment later. Waits for it, for some seconds at most.
  private func settle(of names: Set<String>, isThere: Bool) async {
    for _ in 0..<50 where !names.isEmpty {
      guard let listed = try? await listTopics(timeout: .seconds(2)) else { return }
      let present = names.intersection(listed.filter { $0.partitionCount > 0 }.map(\.name))
      if present == (isThere ? names : []) { return }
      try? await Task.sleep(for: .milliseconds(100))
    }
  }

  /// Deletes topics.
  ///
  /// - Returns: the errors by topic; empty if all were deleted.
  /// - Throws: `KafkaError` if the request as a whole failed.
  @discardableResult
  public func deleteTopics(
    _ names: [String], timeout: Duration = .seconds(15)
  ) async throws -> [String: KafkaError] {
    if names.isEmpty { return [:] }
    let errors = try await blocking.run { [self] in
      var natives: [OpaquePointer?] = names.map { rd_kafka_DeleteTopic_new($0) }
      defer { for native in natives { rd_kafka_DeleteTopic_destroy(native) } }
      return try perform(RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout) { options, queue in
        rd_kafka_DeleteTopics(handle.client, &natives, natives.count, options, queue)
      } read: { event in
        var count = 0
        let results = rd_kafka_DeleteTopics_result_topics(
          rd_kafka_event_DeleteTopics_result(event), &count)
        return Self.topicResults(results, count).compactMapValues { $0 }
      }
    }
    await settle(of: Set(names).subtracting(errors.keys), isThere: false)
    return errors
  }

  /// Deletes the oldest messages of partitions, up to and without these offsets.
  ///
  /// - Throws: `KafkaError` of the first partition that refuses.
  public func deleteRecords(
    before offsets: [TopicPartition: Int64], timeout: Duration = .seconds(15)
  ) async throws {
    if offsets.isEmpty { return }
    try await blocking.run { [self] in
      var request: OpaquePointer? = PartitionList(offsets).withPointer {
        rd_kafka_DeleteRecords_new($0)
      }
      defer { rd_kafka_DeleteRecords_destroy(request) }
      try perform(RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout) { options, queue in
        rd_kafka_DeleteRecords(handle.client, &request, 1, options, queue)
      } read: { event in
        guard
          let list = rd_kafka_DeleteRecords_result_offsets(
            rd_kafka_event_DeleteRecords_result(event))
        else { return }
        try PartitionList.checkErrors(in: list)
      }
    }
  }

  /// What a group has committed.
  ///
  /// - Parameter partitions: those to ask for; nil asks for every partition of every topic.
  /// - Throws: `KafkaError`.
  public func committedOffsets(
    group: String, of partitions: [TopicPartition]? = nil, timeout: Duration = .seconds(10)
  ) async throws -> [TopicPartition: GroupOffset] {
    var wanted = partitions ?? []
    if partitions == nil {
      for topic in try await listTopics(timeout: timeout) {
        wanted += (0..<Int32(clamping: topic.partitionCount)).map {
          TopicPartition(topic: topic.name, partition: $0)
        }
      }
    }
    if wanted.isEmpty { return [:] }
    // Not by the admin client's own call: librdkafka, 2.16 too, ends the process where that call's request to the
    // group's coordinator fails (its issues 3663 and 4605). A consumer that subscribes to nothing is no member.
    let asking = try KafkaHandle(
      RD_KAFKA_CONSUMER, configuration.withoutMembership, defaults: [:],
      forced: ["group.id": group, "enable.auto.commit": "false"], events: 0, logger: handle.logger)
    return try await blocking.run { [wanted] in
      let deadline = ContinuousClock.now + timeout
      while true {
        let list = PartitionList(wanted)
        let left = deadline - ContinuousClock.now
        // In pieces, for it waits on where the reason shows that no answer will come.
        let code = list.withPointer {
          rd_kafka_committed(
            asking.client, $0, max(1, min(left, .milliseconds(500)).milliseconds))
        }
        if code == RD_KAFKA_RESP_ERR_NO_ERROR {
          return list.withPointer { PartitionList.groupOffsets(of: $0) }
        }
        if let refusal = asking.refusalOfGroup() { throw refusal }
        let error = KafkaError(code)
        guard error.isRetriable, left > .zero, !asking.isTroubleFinal else {
          throw error.isRetriable ? asking.unreachable(code, timeout) : error
        }
      }
    }
  }

  /// The first offset that the broker has and the next one to be written.
  ///
  /// - Throws: `KafkaError` naming the partition.
  public func watermarks(
    of partition: TopicPartition, timeout: Duration = .seconds(10)
  ) async throws -> (low: Int64, high: Int64) {
    try await blocking.run { [handle] in
      try KafkaClient.watermarks(handle.client, partition, timeout)
    }
  }

  /// Ends the client.
  public func close() async { pump.stop() }

  // MARK: -

  private func metadata<T: Sendable>(
    allTopics: Bool, _ timeout: Duration,
    _ read: @escaping @Sendable (rd_kafka_metadata) -> T
  ) async throws -> T {
    try await blocking.run { [self] in
      // In growing pieces: a call cannot be ended early where the reason shows that no answer will come.
      let deadline = ContinuousClock.now + timeout
      var piece = timeout / 5
      while true {
        let left = deadline - ContinuousClock.now
        piece = min(max(piece, .seconds(1)), left)
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(
          handle.client, allTopics ? 1 : 0, nil, &metadata, piece.milliseconds)
        if code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata {
          defer { rd_kafka_metadata_destroy(metadata) }
          handle.isConnected()
          return read(metadata.pointee)
        }
        guard deadline - ContinuousClock.now > .milliseconds(1), !handle.isTroubleFinal else {
          throw handle.unreachable(code, timeout)
        }
        piece = piece * 2
      }
    }
  }

  private func makeNative(_ topic: NewTopic) throws -> OpaquePointer {
    var reason = [CChar](repeating: 0, count: 512)
    guard
      let native = rd_kafka_NewTopic_new(
        topic.name, topic.partitions, topic.replication, &reason, reason.count)
    else { throw KafkaError(RD_KAFKA_RESP_ERR__INVALID_ARG, text(reason), topic: topic.name) }
    for (name, value) in topic.configuration {
      rd_kafka_NewTopic_set_config(native, name, value)
    }
    return native
  }

  /// Sends an admin request and waits for its result; blocks.
  private func perform<T>(
    _ operation: rd_kafka_admin_op_t, _ timeout: Duration,
    send: (_ options: OpaquePointer?, _ queue: OpaquePointer?) -> Void,
    read: (_ event: OpaquePointer) throws -> T
  ) throws -> T {
    let options = rd_kafka_AdminOptions_new(handle.client, operation)
    let queue = rd_kafka_queue_new(handle.client)
    defer {
      rd_kafka_queue_destroy(queue)
      rd_kafka_AdminOptions_destroy(options)
    }
    var reason = [CChar](repeating: 0, count: 512)
    let milliseconds = max(1, timeout.milliseconds)
    try check(
      rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, &reason, reason.count))
    send(options, queue)
    // librdkafka itself answers when the request has timed out; the second is for its answer.
    guard let event = rd_kafka_queue_poll(queue, min(milliseconds, Int32.max - 1000) + 1000)
    else { throw handle.unreachable(RD_KAFKA_RESP_ERR__TIMED_OUT, timeout) }
    defer { rd_kafka_event_destroy(event) }
    let code = rd_kafka_event_error(event)
    switch code {
    case RD_KAFKA_RESP_ERR_NO_ERROR: return try read(event)
    case RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__TRANSPORT:
      throw handle.unreachable(code, timeout)
    default:
      throw KafkaError(code, rd_kafka_event_error_string(event).map { String(cString: $0) })
    }
  }

  private static func topicResults(
    _ results: UnsafeMutablePointer<OpaquePointer?>?, _ count: Int
  ) -> [String: KafkaError?] {
    var errors: [String: KafkaError?] = [:]
    for result in UnsafeBufferPointer(start: results, count: results == nil ? 0 : count) {
      guard let result else { continue }
      let name = String(cString: rd_kafka_topic_result_name(result))
      let code = rd_kafka_topic_result_error(result)
      let message = rd_kafka_topic_result_error_string(result).map { String(cString: $0) }
      let error: KafkaError? =
        code == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : KafkaError(code, message, topic: name)
      errors.updateValue(error, forKey: name)
    }
    return errors
  }
}
