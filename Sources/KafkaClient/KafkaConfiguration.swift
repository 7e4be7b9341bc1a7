// Where the brokers are, and librdkafka's own settings passed through by name.

import CRDKafka

/// How to reach Kafka.
///
/// `properties` are librdkafka's (`security.protocol`, `sasl.mechanisms`, `ssl.ca.location`, …), by
/// its own names, and win over the defaults of each client. An unknown name is an error at start.
public struct KafkaConfiguration: Sendable {
  /// `host:port`, several separated by commas.
  public var bootstrapServers: String
  /// May hold secrets: never log the values.
  public var properties: [String: String]

  /// How long a consumer stops fetching after it found nothing. Zero for Kafka itself, which holds an empty
  /// fetch until something comes; a broker that answers it at once would otherwise be asked thousands of
  /// times a second.
  public var idleRest: Duration

  /// - Parameters:
  ///   - bootstrapServers: host:port, several with commas between.
  ///   - properties: librdkafka's, by its own names.
  public init(
    bootstrapServers: String, properties: [String: String] = [:], idleRest: Duration = .zero
  ) {
    self.bootstrapServers = bootstrapServers
    self.properties = properties
    self.idleRest = idleRest
  }

  /// Whether groups are asked for by the protocol of Kafka 4 (KIP-848), in which sessions and assignments are the
  /// broker's affair.
  public var usesConsumerProtocol: Bool { KafkaLibraryPolicy.asksForConsumerProtocol(properties) }

  /// For clients beside the group's members: a name belongs to one of those, and their intervals are nobody else's.
  var withoutMembership: KafkaConfiguration {
    var configuration = self
    for name in [
      "group.instance.id", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms",
      "group.protocol", "group.remote.assignor",
    ] {
      configuration.properties[name] = nil
    }
    return configuration
  }

  /// Looks at the properties alone, without a broker.
  ///
  /// - Throws: `KafkaError` as the clients do.
  public func check() throws { rd_kafka_conf_destroy(try makeNative(defaults: [:], forced: [:])) }

  /// librdkafka's configuration; the caller owns it.
  ///
  /// - Throws: `KafkaError` naming the property that is unknown, has a bad value or asks for what this
  ///   librdkafka cannot do.
  func makeNative(defaults: [String: String], forced: [String: String]) throws -> OpaquePointer {
    let policy = KafkaLibraryPolicy.standard
    if let problem = policy.problem(of: .current, with: properties) {
      throw KafkaError.setting(problem)
    }
    guard let native = rd_kafka_conf_new() else {
      throw KafkaError(RD_KAFKA_RESP_ERR__FAIL, "out of memory for a configuration")
    }
    var all = ["client.id": "oppu-worker", "bootstrap.servers": bootstrapServers]
    for layer in [defaults, properties, forced] { all.merge(layer) { _, new in new } }
    var reason = [CChar](repeating: 0, count: 512)
    for (name, value) in all.sorted(by: { $0.key < $1.key }) {
      if rd_kafka_conf_set(native, name, value, &reason, reason.count) != RD_KAFKA_CONF_OK {
        rd_kafka_conf_destroy(native)
        throw KafkaError.setting("Kafka property \"\(name)\": \(text(reason))")
      }
    }
    let isVerified = properties["enable.ssl.certificate.verification"]?.lowercased() != "false"
    if isVerified, properties["ssl.certificate.verify_cb"] == nil {
      CertificateProblem.tell(by: native)
    }
    return native
  }
}

/// A C string in a buffer of ours.
func text(_ buffer: [CChar]) -> String {
  String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
