// A producer whose `send` returns when the broker has the message.

import CRDKafka
import Foundation
import StructuredLogging
import Synchronization

/// A message to send.
public struct OutgoingMessage: Sendable {
  public var topic: String
  /// Nil: chosen from the key.
  public var partition: Int32?
  /// Nil is Kafka's null, from which no partition follows.
  public var key: Data?
  /// Nil is a tombstone.
  public var value: Data?
  /// In the order in which they are written; a key may come more than once.
  public var headers: [KafkaHeader]
  /// To the millisecond; nil: the time of sending.
  public var timestamp: Date?

  /// - Parameters:
  ///   - partition: nil: chosen from the key.
  ///   - value: nil is a tombstone.
  public init(
    topic: String, partition: Int32? = nil, key: Data?, value: Data?,
    headers: [KafkaHeader] = [], timestamp: Date? = nil
  ) {
    self.topic = topic
    self.partition = partition
    self.key = key
    self.value = value
    self.headers = headers
    self.timestamp = timestamp
  }
}

/// A producer, safe to share between tasks.
///
/// By default idempotent with all acknowledgements: a message is written once and in order per
/// partition, also over retries. librdkafka retries until `delivery.timeout.ms` (2 minutes) is over.
/// A broker that forgot its producers (a restart without their state) ends an idempotent session:
/// the messages under way fail with a retriable error, since nobody knows whether they were
/// written, and the next `send` opens a new session.
public final class KafkaProducer: Sendable {
  /// Bytes of a message at most, unless the configuration says otherwise (`message.max.bytes`).
  public static let maximumBytes = 104_857_600

  private let configuration: KafkaConfiguration
  private let logger: Logger
  private let blocking = BlockingQueue(label: "oppu.kafka.flush")
  private let asking = BlockingQueue(label: "oppu.kafka.metadata")
  private let session: Mutex<Session>

  /// One native producer. The lock is held while a message is handed over, so that none slips in
  /// behind `close` or into a session that was replaced.
  private struct Session {
    var handle: KafkaHandle
    var pump: EventPump
    var isClosed = false
  }

  private enum Outcome: Sendable {
    case delivered(partition: Int32, offset: Int64)
    case queueFull
  }

  /// What librdkafka carries with a message: whom to tell. Retained while librdkafka holds
  /// the message; released by the delivery report, or at once if librdkafka did not take it.
  private final class Delivery: Sendable {
    let complete: @Sendable (Result<Outcome, any Error>) -> Void
    init(_ complete: @escaping @Sendable (Result<Outcome, any Error>) -> Void) {
      self.complete = complete
    }
  }

  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  public init(
    configuration: KafkaConfiguration, logger: Logger = Logger(label: "oppu.kafka")
  ) throws {
    self.configuration = configuration
    self.logger = logger
    session = Mutex(try Self.open(configuration, logger))
  }

  deinit { session.withLock { $0.pump.stop() } }

  private static func open(
    _ configuration: KafkaConfiguration, _ logger: Logger
  ) throws -> Session {
    let handle = try KafkaHandle(
      RD_KAFKA_PRODUCER, configuration,
      defaults: [
        "enable.idempotence": "true", "acks": "all", "linger.ms": "2",
        "delivery.timeout.ms": "120000",
        // The broker decides how large a message may be: what was read can be sent on.
        "message.max.bytes": "\(maximumBytes)",
      ], events: RD_KAFKA_EVENT_DR, logger: logger)
    let pump = EventPump()
    pump.start(handle) { [handle] in deliver($0, of: handle) }
    return Session(handle: handle, pump: pump)
  }

  /// Sends a message and waits until the broker has acknowledged it.
  ///
  /// Messages of one partition keep the order in which `send` was entered. A full local queue is
  /// waited for. Cancelling the task ends that wait, but not the wait for an acknowledgement: a
  /// message that was handed over may be written anyway.
  /// - Parameters:
  ///   - partition: by default chosen from the key.
  ///   - value: nil is a tombstone.
  /// - Returns: where the message was written.
  /// - Throws: `KafkaError` with `topic`, at the latest after `delivery.timeout.ms`.
  @discardableResult
  public func send(
    topic: String, partition: Int32? = nil, key: Data?, value: Data?,
    headers: [KafkaHeader] = [], timestamp: Date? = nil
  ) async throws -> (partition: Int32, offset: Int64) {
    let message = OutgoingMessage(
      topic: topic, partition: partition, key: key, value: value, headers: headers,
      timestamp: timestamp)
    while true {
      let outcome = try await withCheckedThrowingContinuation { continuation in
        if let failure = hand(over: message, Delivery { continuation.resume(with: $0) }) {
          continuation.resume(with: failure)
        }
      }
      switch outcome {
      case .delivered(let partition, let offset): return (partition, offset)
      case .queueFull: try await Task.sleep(for: .milliseconds(5))
      }
    }
  }

  /// Sends messages in their order and waits until each is acknowledged or has failed.
  ///
  /// A full local queue is waited for; cancelling the task ends that wait, and what was not handed
  /// over has failed.
  /// - Returns: the failures by the messages' indexes; empty if the broker has all of them.
  public func send(_ messages: [OutgoingMessage]) async -> [Int: any Error] {
    let batch = BatchDelivery()
    for (index, message) in messages.enumerated() {
      batch.begin()
      while let outcome = hand(over: message, Delivery { batch.end(index, $0) }) {
        if case .failure = outcome {
          batch.end(index, outcome)
          break
        }
        do { try await Task.sleep(for: .milliseconds(5)) } catch {
          batch.end(index, .failure(error))
          break
        }
      }
    }
    return await batch.wait()
  }

  /// Counts the messages of one call that are under way.
  private final class BatchDelivery: Sendable {
    private struct State {
      var open = 1  // the call itself, until it waits
      var failures: [Int: any Error] = [:]
      var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    func begin() { state.withLock { $0.open += 1 } }

    func end(_ index: Int, _ result: Result<Outcome, any Error>) {
      let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
        state.open -= 1
        if case .failure(let error) = result { state.failures[index] = error }
        return state.open == 0 ? state.waiter : nil
      }
      waiter?.resume()
    }

    /// The failures, once nothing is under way.
    func wait() async -> [Int: any Error] {
      await withCheckedContinuation { continuation in
        let isDone = state.withLock { state in
          state.open -= 1
          if state.open > 0 { state.waiter = continuation }
          return state.open == 0
        }
        if isDone { continuation.resume() }
      }
      return state.withLock { $0.failures }
    }
  }

  /// Gives a message to librdkafka; nil where its delivery report completes the delivery.
  private func hand(
    over message: OutgoingMessage, _ delivery: Delivery
  ) -> Result<Outcome, any Error>? {
    let delivery = Unmanaged.passRetained(delivery)
    let failure = session.withLock { session -> KafkaError? in
      if session.isClosed {
        return KafkaError(RD_KAFKA_RESP_ERR__STATE, "the producer is closed", isFatal: true)
      }
      do {
        if let reason = session.handle.fatalError() {
          // One that may write nowhere is told by what it was to write.
          let level = reason.isForbidden ? Logger.Level.debug : .warning
          logger.log(level: level, "a producer session ended; opening another: \(reason)")
          session.pump.stop()  // after it has served what is under way
          session = try Self.open(configuration, logger)
        }
      } catch {
        return error as? KafkaError ?? KafkaError(RD_KAFKA_RESP_ERR__FAIL, "\(error)")
      }
      return produce(to: session.handle, message, opaque: delivery.toOpaque())
    }
    guard let failure else { return nil }
    delivery.release()
    return failure.code == RD_KAFKA_RESP_ERR__QUEUE_FULL.rawValue
      ? .success(.queueFull) : .failure(failure)
  }

  /// Hands a message to librdkafka, which copies it; does not block.
  private func produce(
    to handle: KafkaHandle, _ message: OutgoingMessage, opaque: UnsafeMutableRawPointer
  ) -> KafkaError? {
    message.topic.withCString { topicName in
      withBytes(of: message.key) { key in
        withBytes(of: message.value) { value in
          var arguments = [rd_kafka_vu_t](repeating: rd_kafka_vu_t(), count: 5)
          arguments[0].vtype = RD_KAFKA_VTYPE_TOPIC
          arguments[0].u.cstr = topicName
          arguments[1].vtype = RD_KAFKA_VTYPE_PARTITION
          arguments[1].u.i32 = message.partition ?? RD_KAFKA_PARTITION_UA
          arguments[2].vtype = RD_KAFKA_VTYPE_MSGFLAGS
          arguments[2].u.i = RD_KAFKA_MSG_F_COPY
          arguments[3].vtype = RD_KAFKA_VTYPE_OPAQUE
          arguments[3].u.ptr = opaque
          arguments[4].vtype = RD_KAFKA_VTYPE_TIMESTAMP
          arguments[4].u.i64 = message.timestamp.map(milliseconds) ?? 0  // 0 is now
          // librdkafka copies key and value and does not write to them.
          for (kind, bytes) in [(RD_KAFKA_VTYPE_KEY, key), (RD_KAFKA_VTYPE_VALUE, value)] {
            guard let bytes else { continue }
            var argument = rd_kafka_vu_t()
            argument.vtype = kind
            argument.u.mem.ptr = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
            argument.u.mem.size = bytes.count
            arguments.append(argument)
          }
          let list = message.headers.isEmpty ? nil : makeHeaders(message.headers)
          if let list {
            var argument = rd_kafka_vu_t()
            argument.vtype = RD_KAFKA_VTYPE_HEADERS
            argument.u.headers = list
            arguments.append(argument)
          }
          guard let error = rd_kafka_produceva(handle.client, arguments, arguments.count) else {
            return nil
          }
          if let list { rd_kafka_headers_destroy(list) }  // taken over only on success
          return KafkaError(owning: error, topic: message.topic)
        }
      }
    }
  }

  /// Resumes the tasks whose messages a delivery-report event is about.
  private static func deliver(_ event: OpaquePointer, of handle: KafkaHandle) {
    // The producer as a whole recovers, so the end of a session is no fatal error of its messages.
    let end = handle.fatalError()
    let sessionEnded = end != nil ? true : nil
    while let message = rd_kafka_event_message_next(event) {
      guard let opaque = message.pointee._private else { continue }
      let delivery = Unmanaged<Delivery>.fromOpaque(opaque).takeRetainedValue()
      if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR {
        delivery.complete(
          .success(
            .delivered(partition: message.pointee.partition, offset: message.pointee.offset)))
      } else {
        let topic = message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) }
        let error = KafkaError(message.pointee.err, topic: topic, isRetriable: sessionEnded)
        delivery.complete(
          .failure(
            error.isForbidden || end?.isForbidden == true ? forbiddenWrite(to: topic) : error))
      }
    }
  }

  /// A topic's own right is missing, or, for a session cannot begin without one, every topic's.
  private static func forbiddenWrite(to topic: String?) -> KafkaError {
    KafkaError(
      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
      "this user may not write to the topic: the right Write on \(topic ?? "it") is missing",
      topic: topic)
  }

  /// Ends the native producer as a broker can, for tests.
  func failSession() {
    session.withLock { session in
      _ = rd_kafka_test_fatal_error(
        session.handle.client, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "asked for by a test"
      )
    }
  }

  /// How many partitions a topic has, asked of a broker; nil where there is no such topic, or none that
  /// this client may see. From then on `send` knows of them.
  ///
  /// A message to a topic or partition that librdkafka has not heard of waits for half a minute, or
  /// fails at once though it has come to be since; this tells beforehand.
  /// - Throws: `KafkaError` where no broker answers in time.
  public func partitionCount(of topic: String, timeout: Duration) async throws -> Int? {
    let handle = session.withLock { $0.handle }
    return try await asking.run {
      guard let native = rd_kafka_topic_new(handle.client, topic, nil) else {
        throw KafkaError(rd_kafka_last_error(), topic: topic)
      }
      defer { rd_kafka_topic_destroy(native) }
      var metadata: UnsafePointer<rd_kafka_metadata>?
      try check(
        rd_kafka_metadata(handle.client, 0, native, &metadata, timeout.milliseconds), topic: topic)
      guard let metadata else { return nil }
      defer { rd_kafka_metadata_destroy(metadata) }
      guard metadata.pointee.topic_cnt == 1, let found = metadata.pointee.topics?.pointee else {
        return nil
      }
      switch found.err {
      case RD_KAFKA_RESP_ERR_NO_ERROR: return Int(found.partition_cnt)
      case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return nil
      default: throw KafkaError(found.err, topic: topic)
      }
    }
  }

  /// Waits until every message handed over so far is acknowledged or has failed.
  ///
  /// - Throws: `KafkaError` if that takes longer than `timeout`.
  public func flush(timeout: Duration) async throws {
    let handle = session.withLock { $0.handle }
    try await blocking.run {
      try check(rd_kafka_flush(handle.client, timeout.milliseconds))
    }
  }

  /// Refuses new messages, waits up to `timeout` for the rest, and fails what is left.
  public func close(timeout: Duration = .seconds(10)) async {
    let wasClosed = session.withLock { session in
      defer { session.isClosed = true }
      return session.isClosed
    }
    if wasClosed { return }
    let (handle, pump) = session.withLock { ($0.handle, $0.pump) }
    do { try await flush(timeout: timeout) } catch {
      logger.warning("messages were not delivered before closing: \(error)")
      rd_kafka_purge(handle.client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT)
    }
    pump.stop()
  }
}

/// Milliseconds since 1970; a date beyond what fits is the nearest that does.
private func milliseconds(_ date: Date) -> Int64 {
  Int64(max(1, min(9.0e15, (date.timeIntervalSince1970 * 1000).rounded())))
}

/// The bytes of optional data; an empty value has an address, so that it is not taken for null.
private func withBytes<T>(of data: Data?, _ body: (UnsafeRawBufferPointer?) -> T) -> T {
  guard let data else { return body(nil) }
  if data.isEmpty {
    return withUnsafeBytes(of: UInt8(0)) { body(UnsafeRawBufferPointer(rebasing: $0[..<0])) }
  }
  return data.withUnsafeBytes { body($0) }
}

/// librdkafka's copy of the headers; the caller owns it.
private func makeHeaders(_ headers: [KafkaHeader]) -> OpaquePointer? {
  let list = rd_kafka_headers_new(headers.count)
  for header in headers {
    withBytes(of: header.value) { value in
      _ = rd_kafka_header_add(
        list, header.key, header.key.utf8.count, value?.baseAddress, value?.count ?? 0)
    }
  }
  return list
}
