// What is done to text before it is cut and merged.

import Foundation

/// The normalisation of a stretch of text between special tokens.
struct TextNormalizer: Sendable, Equatable {
  /// Canonical composition (Unicode normalisation form C).
  var composes = false
  /// A block before the text, as in SentencePiece (`Prepend`).
  var prepends = false
  /// A block for each blank (`Replace`).
  var replacesBlanks = false

  /// SentencePiece's visible blank ▁, U+2581, in UTF-8.
  static let block: [UInt8] = [0xE2, 0x96, 0x81]

  /// The normalised bytes, nil where they are the same.
  func apply(_ bytes: Slice<UnsafeBufferPointer<UInt8>>, isContinuation: Bool) -> [UInt8]? {
    if composes, bytes.contains(where: { $0 >= 0x80 }) {
      return Array(
        String(decoding: bytes, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)
    }
    guard replacesBlanks || prepends, !bytes.isEmpty else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count + bytes.count / 2 + 3)
    if prepends && !isContinuation { result += Self.block }
    guard replacesBlanks else { return result + bytes }
    return Self.replaceBlanks(bytes, into: &result)
  }

  static func replaceBlanks(
    _ bytes: Slice<UnsafeBufferPointer<UInt8>>, into result: inout [UInt8]
  ) -> [UInt8] {
    for byte in bytes {
      if byte == UInt8(ascii: " ") { result += block } else { result.append(byte) }
    }
    return result
  }
}

/// SentencePiece's way to mark where words begin, as tokenizer.json has it (`Metaspace`).
struct Metaspace: Sendable, Equatable {
  enum Prefix: String, Sendable {
    case always
    /// Only at the beginning of the whole text.
    case first
    case never
  }
  var prefix: Prefix
  /// Whether each block begins a piece of its own.
  var splits: Bool

  /// The text with blocks for blanks, and one before it where there is none yet.
  func apply(_ bytes: Slice<UnsafeBufferPointer<UInt8>>, isBeginning: Bool) -> [UInt8] {
    var result: [UInt8] = []
    let wantsPrefix = prefix == .always || (prefix == .first && isBeginning)
    let block = TextNormalizer.block
    if wantsPrefix, bytes.first != UInt8(ascii: " "), !bytes.starts(with: block) {
      result += block
    }
    return TextNormalizer.replaceBlanks(bytes, into: &result)
  }

  /// Calls `body` with each piece of the text that ``apply(_:isBeginning:)`` made.
  func forEachPiece(_ bytes: [UInt8], _ body: (Range<Int>) -> Void) {
    guard splits else { return body(0..<bytes.count) }
    var start = 0
    for position in bytes.indices.dropFirst()
    where bytes[position...].starts(with: TextNormalizer.block) {
      body(start..<position)
      start = position
    }
    if start < bytes.count { body(start..<bytes.count) }
  }
}
