// Ownership of librdkafka's objects, and the threads on which its blocking calls run.

import CRDKafka
import Dispatch
import Foundation
import StructuredLogging
import Synchronization

/// One librdkafka client.
///
/// `@unchecked Sendable`: librdkafka documents `rd_kafka_t` and its queues as safe to use from any
/// thread; both pointers never change and are released once, by `deinit`, when no call can be
/// under way any more because every call holds the handle.
final class KafkaHandle: @unchecked Sendable {
  let client: OpaquePointer
  /// Where events arrive: the consumer's queue, or the main queue of the others.
  let queue: OpaquePointer
  let logger: Logger
  private let reports: ReportLimiter
  private let trouble: Mutex<ConnectionTrouble>

  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  init(
    _ kind: rd_kafka_type_t, _ configuration: KafkaConfiguration, defaults: [String: String],
    forced: [String: String] = [:], events: Int32, logger: Logger
  ) throws {
    let properties = configuration.properties
    var forced = forced.merging(["log.queue": "true"]) { $1 }
    var trouble = ConnectionTrouble()
    let policy = KafkaLibraryPolicy.standard
    if policy.isScramLimited(of: .current, with: properties) {
      // What a broker can do tells which Kafka it is, and is told here alone.
      forced["debug"] = [properties["debug"], "feature"].compactMap { $0 }.joined(separator: ",")
      trouble.scramProblem = policy.scram.sentence(for: .current)
    }
    self.trouble = Mutex(trouble)
    let native = try configuration.makeNative(defaults: defaults, forced: forced)
    rd_kafka_conf_set_events(native, events | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG)
    var reason = [CChar](repeating: 0, count: 512)
    guard let client = rd_kafka_new(kind, native, &reason, reason.count) else {
      rd_kafka_conf_destroy(native)  // only a successful rd_kafka_new takes it over
      throw KafkaError.setting(text(reason))
    }
    self.client = client
    self.logger = logger
    reports = ReportLimiter(servers: configuration.bootstrapServers)
    rd_kafka_set_log_queue(client, nil)  // logs come as events of the main queue
    if kind == RD_KAFKA_CONSUMER { rd_kafka_poll_set_consumer(client) }
    queue =
      kind == RD_KAFKA_CONSUMER
      ? rd_kafka_queue_get_consumer(client) : rd_kafka_queue_get_main(client)
  }

  deinit {
    rd_kafka_queue_destroy(queue)
    // Destroying joins librdkafka's threads, so it must not hold up whoever let go last.
    let address = UInt(bitPattern: client)
    DispatchQueue.global().async {
      guard let client = OpaquePointer(bitPattern: address) else { return }
      rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    }
  }

  /// Takes the next event; the caller destroys it.
  func poll(_ timeout: Duration) -> OpaquePointer? {
    rd_kafka_queue_poll(queue, timeout.milliseconds)
  }

  /// Reports a log or error event.
  ///
  /// - Throws: `KafkaError` if the client has failed for good.
  func report(_ event: OpaquePointer) throws {
    switch rd_kafka_event_type(event) {
    case RD_KAFKA_EVENT_LOG: reportLog(event)
    case RD_KAFKA_EVENT_ERROR: try reportError(event)
    default: break
    }
  }

  /// The partition that an error event is about.
  static func partition(of event: OpaquePointer) -> TopicPartition? {
    guard let native = rd_kafka_event_topic_partition(event) else { return nil }
    defer { rd_kafka_topic_partition_destroy(native) }
    return TopicPartition(
      topic: String(cString: native.pointee.topic), partition: native.pointee.partition)
  }

  var servers: String { reports.servers }

  /// Reports what has come, of a client that nobody polls.
  func serve() {
    while let event = poll(.zero) {
      defer { rd_kafka_event_destroy(event) }
      try? report(event)
    }
  }

  /// Whether waiting for a broker is in vain, as far as is known.
  var isTroubleFinal: Bool { trouble.withLock { $0.isFinal } }

  /// An error of a call that got no answer, with the reason where one is known.
  ///
  /// - Parameter servers: what was asked, in words.
  func explain(_ code: rd_kafka_resp_err_t, asking servers: String) -> KafkaError {
    let cause = trouble.withLock { trouble in
      trouble.cause.map { (code: $0.code, sentence: $0.sentence, isFinal: trouble.isFinal) }
    }
    guard let cause else {
      return KafkaError(code, "\(servers): \(String(cString: rd_kafka_err2str(code)))")
    }
    return KafkaError(cause.isFinal ? cause.code : code, "\(servers): \(cause.sentence)")
  }

  /// The error of a call that got no answer within its time.
  func unreachable(_ code: rd_kafka_resp_err_t, _ timeout: Duration) -> KafkaError {
    explain(
      code,
      asking: isTroubleFinal
        ? "no connection to \(servers)"
        : "no broker answered at \(servers) within \(timeout.milliseconds) ms")
  }

  /// Reports what has come, of a client that nobody polls; returns the broker's refusal to let it use its group.
  func refusalOfGroup() -> KafkaError? {
    var refusal: KafkaError?
    while let event = poll(.zero) {
      defer { rd_kafka_event_destroy(event) }
      if rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED {
        refusal = KafkaError(RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
      } else {
        try? report(event)
      }
    }
    return refusal
  }

  /// Forgets what hindered connections, for one works.
  func isConnected() {
    trouble.withLock { trouble in
      let scram = trouble.scramProblem
      trouble = ConnectionTrouble()
      trouble.scramProblem = scram
    }
  }

  private func reportLog(_ event: OpaquePointer) {
    var facility: UnsafePointer<CChar>?
    var message: UnsafePointer<CChar>?
    var level: Int32 = 7
    guard rd_kafka_event_log(event, &facility, &message, &level) == 0, let facility, let message
    else { return }
    let name = String(cString: facility)
    let line = String(cString: message)
    trouble.withLock { $0.note(log: line) }
    let swiftLevel: Logger.Level =
      switch level {
      // A failing connection also comes as an error event, which is reported with a limit.
      case _ where name == "FAIL" || name == "ERROR": .debug
      // Why a certificate is not trusted comes with the connection's error too.
      case _ where line.contains(ConnectionTrouble.certificateMark): .debug
      // Settings are for all clients, each of which has a use for some; a broker that has just begun is retried.
      case _ where name == "CONFWARN" || line.hasSuffix(": retrying"): .debug
      case ...2: .error  // critical for librdkafka's client, which this one replaces or throws for
      case 3: .error
      case 4: .warning
      case 5, 6: .debug
      default: .trace
      }
    logger.log(level: swiftLevel, "librdkafka \(name): \(line)")
  }

  private func reportError(_ event: OpaquePointer) throws {
    let code = rd_kafka_event_error(event)
    if code == RD_KAFKA_RESP_ERR__PARTITION_EOF { return }  // for those who ask for it; no trouble
    let message = rd_kafka_event_error_string(event).map { String(cString: $0) }
    if rd_kafka_event_error_is_fatal(event) != 0 { throw fatalError() ?? KafkaError(code, message) }
    let said = trouble.withLock { trouble in
      trouble.note(code, message ?? "")
      return trouble.sentence(for: code)
    }
    let error = KafkaError(code, said ?? message)
    guard let suppressed = reports.admit(error.code) else { return }
    logger.warning(
      "\(error)",
      metadata: [
        "servers": "\(reports.servers)", "suppressed": "\(suppressed)",
      ])
  }

  /// The error that ended this client, if one did.
  func fatalError() -> KafkaError? {
    var reason = [CChar](repeating: 0, count: 512)
    let code = rd_kafka_fatal_error(client, &reason, reason.count)
    if code == RD_KAFKA_RESP_ERR_NO_ERROR { return nil }
    return KafkaError(code, text(reason), isFatal: true)
  }
}

/// Lets an error of each code be reported once in half a minute.
private final class ReportLimiter: Sendable {
  let servers: String
  private let last = Mutex<[Int32: (at: ContinuousClock.Instant, suppressed: Int)]>([:])

  init(servers: String) { self.servers = servers }

  /// How many were kept back since the last report; nil if this one is to be kept back too.
  func admit(_ code: Int32) -> Int? {
    let now = ContinuousClock.now
    return last.withLock { last in
      guard let previous = last[code], now - previous.at < .seconds(30) else {
        defer { last[code] = (now, 0) }
        return last[code]?.suppressed ?? 0
      }
      last[code] = (previous.at, previous.suppressed + 1)
      return nil
    }
  }
}

/// A thread for blocking calls, one after another.
struct BlockingQueue: Sendable {
  private let queue: DispatchQueue

  init(label: String) { queue = DispatchQueue(label: label) }

  func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try work() }) }
    }
  }
}

/// Serves the events of a client that has no caller who polls: a producer or an admin client.
final class EventPump: Sendable {
  private let isStopped = Atomic(false)

  /// - Parameter handle: is held until the pump has stopped and nothing is left to serve.
  func start(_ handle: KafkaHandle, onDelivery: @escaping @Sendable (OpaquePointer) -> Void) {
    let thread = Thread {
      while !self.isStopped.load(ordering: .acquiring) || rd_kafka_outq_len(handle.client) > 0 {
        guard let event = handle.poll(.milliseconds(100)) else { continue }
        defer { rd_kafka_event_destroy(event) }
        if rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR {
          onDelivery(event)
        } else {
          // What a fatal error means is seen at the next call, which asks for it.
          do { try handle.report(event) } catch { handle.logger.error("\(error)") }
        }
      }
    }
    thread.name = "oppu.kafka.events"
    thread.start()
  }

  func stop() { isStopped.store(true, ordering: .releasing) }
}

extension Duration {
  /// Whole milliseconds, not negative, as librdkafka takes them.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    let limit = Int64(Int32.max)
    if seconds < 0 { return 0 }
    if seconds >= limit / 1000 { return Int32.max }
    return Int32(clamping: max(0, seconds * 1000 + attoseconds / 1_000_000_000_000_000))
  }
}
