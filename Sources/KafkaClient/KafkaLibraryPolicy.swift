// Which versions of librdkafka will do, for what: every threshold, and what is said where one is not reached.

/// What a worker needs of librdkafka. docs/operating.md has the same as a table.
public struct KafkaLibraryPolicy: Sendable {
  /// Something that librdkafka can do from a version on.
  public struct Threshold: Sendable, Hashable {
    /// What asks for it, as an operator would say it.
    public let what: String
    /// The oldest version that can do it.
    public let needed: KafkaLibrary
    /// What older versions do.
    public let before: String
    /// What helps without a newer one; may be empty.
    public let remedy: String

    /// The sentence for an operator who has an older one.
    func sentence(for library: KafkaLibrary, asked: String? = nil) -> String {
      "\(asked ?? what) needs librdkafka \(needed) or newer; this is \(library), in which \(before)."
        + (remedy.isEmpty ? "" : " \(remedy)")
    }
  }

  /// The one that workers go by.
  public static let standard = KafkaLibraryPolicy()

  /// The oldest that a worker starts with; Debian 12 has it.
  public let oldest = KafkaLibrary(2, 0, 2)
  /// Debian 13 has it, and the image of deploy/.
  public let recommended = KafkaLibrary(2, 8, 0)

  /// A member that leaves before its first assignment fails an assertion in
  /// `rd_kafka_sticky_assignor_state_destroy` (librdkafka issue 4312).
  public let incrementalRebalances = Threshold(
    what: "partition.assignment.strategy=cooperative-sticky", needed: KafkaLibrary(2, 3, 0),
    before: "it may end the process", remedy: "Leave the property away: rebalances are then eager.")
  /// The client's nonce was sent twice (librdkafka pull request 4895); Kafka since 4.0 compares strictly.
  public let scram = Threshold(
    what: "a SCRAM login at a broker of Kafka 4 or newer", needed: KafkaLibrary(2, 6, 1),
    before: "the right password is refused as invalid credentials",
    remedy: "Take a newer librdkafka, or another sasl.mechanisms.")
  /// Before, the protocol is missing or a preview (KIP-848).
  public let consumerProtocol = Threshold(
    what: "group.protocol=consumer", needed: KafkaLibrary(2, 12, 0),
    before: "it is missing or unfinished",
    remedy: "Leave the property away: the group then has the classic protocol.")

  /// All of them, whether or not they are asked for.
  public var thresholds: [Threshold] { [incrementalRebalances, scram, consumerProtocol] }

  /// What of these properties a version cannot do, whatever the broker, as a sentence for an operator; nil where
  /// all is well.
  func problem(of library: KafkaLibrary, with properties: [String: String]) -> String? {
    if library < oldest {
      return "this is librdkafka \(library); a worker needs \(oldest) or newer."
    }
    if let strategy = properties["partition.assignment.strategy"],
      strategy.contains("cooperative-sticky"), library < incrementalRebalances.needed
    {
      return incrementalRebalances.sentence(
        for: library, asked: "partition.assignment.strategy=\(strategy)")
    }
    if Self.asksForConsumerProtocol(properties), library < consumerProtocol.needed {
      return consumerProtocol.sentence(for: library)
    }
    return nil
  }

  /// Whether a version can log in with SCRAM at some brokers only.
  func isScramLimited(of library: KafkaLibrary, with properties: [String: String]) -> Bool {
    let mechanism = properties["sasl.mechanisms"] ?? properties["sasl.mechanism"] ?? ""
    return mechanism.uppercased().hasPrefix("SCRAM") && library < scram.needed
  }

  static func asksForConsumerProtocol(_ properties: [String: String]) -> Bool {
    properties["group.protocol"]?.lowercased() == "consumer"
  }

  /// A line about a version for those who look after a worker.
  public func summary(of library: KafkaLibrary) -> String {
    let unmet = thresholds.filter { library < $0.needed }.map { "\($0.what) (\($0.needed))" }
    return "\(library)"
      + (unmet.isEmpty ? "" : "; not with this version: \(unmet.joined(separator: ", "))")
      + (library < recommended ? "; recommended: \(recommended) or newer" : "")
  }
}
