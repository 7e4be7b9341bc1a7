// Tokens that are found in the text itself, before it is cut and merged.

/// Special and added tokens by first byte, longest first: at each place of a text the longest counts.
struct SpecialTokens: Sendable {
  private var tokens: [UInt8: [(bytes: [UInt8], id: Int32)]] = [:]

  init(_ all: [(bytes: [UInt8], id: Int32)]) {
    for token in all {
      if let first = token.bytes.first { tokens[first, default: []].append(token) }
    }
    tokens = tokens.mapValues { list in list.sorted { $0.bytes.count > $1.bytes.count } }
  }

  /// Those of them that fit.
  func filter(_ fits: (_ text: [UInt8], _ id: Int32) -> Bool) -> SpecialTokens {
    var kept = self
    kept.tokens = tokens.mapValues { list in list.filter { fits($0.bytes, $0.id) } }
      .filter { !$0.value.isEmpty }
    return kept
  }

  var isEmpty: Bool { tokens.isEmpty }

  /// Calls `text` for each stretch between tokens, empty ones left out, and `token` for each token.
  func split(
    _ bytes: UnsafeBufferPointer<UInt8>, text: (Range<Int>) -> Void, token: (Int32) -> Void
  ) {
    var start = 0
    var position = 0
    while position < bytes.count && !isEmpty {
      guard let found = find(bytes, position) else {
        position += 1
        continue
      }
      if start < position { text(start..<position) }
      token(found.id)
      position += found.bytes.count
      start = position
    }
    if start < bytes.count { text(start..<bytes.count) }
  }

  private func find(
    _ bytes: UnsafeBufferPointer<UInt8>, _ position: Int
  ) -> (bytes: [UInt8], id: Int32)? {
    tokens[bytes[position]]?.first { token in
      token.bytes.count <= bytes.count - position
        && token.bytes.indices.allSatisfy { bytes[position + $0] == token.bytes[$0] }
    }
  }
}
