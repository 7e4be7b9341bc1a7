// Topics that a broker is made not to know, in the bytes of Kafka's protocol.

/// Takes names that begin in a certain way out of what clients ask for, and puts them back into the answers.
///
/// In questions about topics (Metadata) the name's beginning gets a blank in its end, which no topic has: the broker
/// makes no such topic and calls the name invalid (17). In the answer it is the client's name again, with the error
/// that a broker gives that has no such topic (3, UNKNOWN_TOPIC_OR_PARTITION).
public struct KafkaTopicHiding: LoopbackObserver {
  private let name: [UInt8]
  private let invalidName: [UInt8]

  private static let metadata: [UInt8] = [0, 3]
  private static let invalidTopic: [UInt8] = [0, 17]
  private static let unknownTopic: [UInt8] = [0, 3]

  /// - Parameter beginning: how the names begin that are hidden.
  public init(beginning: String) {
    name = Array(beginning.utf8)
    invalidName = Array(name.dropLast()) + [UInt8(ascii: " ")]
  }

  /// A client's question: its length, its kind, the rest.
  public func fromClient(_ frame: [UInt8]) -> [UInt8]? {
    guard frame.count > 6, Array(frame[4..<6]) == Self.metadata else { return frame }
    var frame = frame
    while let found = frame.firstRange(of: name) { frame.replaceSubrange(found, with: invalidName) }
    return frame
  }

  /// A broker's answer: its length, the rest.
  public func fromServer(_ frame: [UInt8]) -> [UInt8]? {
    var frame = frame
    while let found = frame.firstRange(of: invalidName) {
      frame.replaceSubrange(found, with: name)
      // Before a topic's name stand its length, in one byte or two by the protocol's version, and its error.
      for length in [1, 2] where found.lowerBound >= length + 2 {
        let error = found.lowerBound - length - 2..<found.lowerBound - length
        if Array(frame[error]) == Self.invalidTopic {
          frame.replaceSubrange(error, with: Self.unknownTopic)
          break
        }
      }
    }
    return frame
  }
}
