// Which stream: one user's events of one task.

/// One user's stream of one task.
public struct StreamID: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  public let userID: String
  public let task: String

  public init(userID: String, task: String) {
    self.userID = userID
    self.task = task
  }

  /// For people: stands in sentences, so what a terminal would act on, or what ends a line, is written out.
  public var description: String {
    "\(userID)/\(task)".unicodeScalars.reduce(into: "") { text, scalar in
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator:
        text += scalar.escaped(asASCII: true)
      default: text.unicodeScalars.append(scalar)
      }
    }
  }

  // By bytes, as PostgreSQL compares ids: Swift's own == takes "é" in one code point and in two for the same.
  public static func == (a: StreamID, b: StreamID) -> Bool {
    a.userID.utf8.elementsEqual(b.userID.utf8) && a.task.utf8.elementsEqual(b.task.utf8)
  }

  public func hash(into hasher: inout Hasher) {
    for text in [userID, task] {
      var text = text
      text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
      hasher.combine(UInt8(0xFF))
    }
  }

  /// The order in which rows are locked everywhere, so that transactions do not deadlock.
  public static func < (a: StreamID, b: StreamID) -> Bool {
    a.userID.utf8.elementsEqual(b.userID.utf8)
      ? a.task.utf8.lexicographicallyPrecedes(b.task.utf8)
      : a.userID.utf8.lexicographicallyPrecedes(b.userID.utf8)
  }
}
