// A task's checks for content that is plainly right, on the bytes as they came.
//
// It only ever says "taken" where `TaskDefinition.validate` says so too, with the same output; all else, also
// everything that is refused, is left to that. Ingest checks a hundred thousand events a second with it.

import Foundation
import JSON

/// The quick checks of one task, made ready for many events.
public struct QuickCheck: Sendable {
  /// What came of it.
  public enum Result: Sendable, Equatable {
    /// Taken, with the output in the task's own form; nil where there is none.
    case taken(output: String?)
    /// `TaskDefinition.validate` decides.
    case unclear
  }

  private let task: TaskDefinition
  private let fields: [(name: [UInt8], field: InputField)]
  /// Labels and ratings in the task's own spelling; empty for text.
  private let answers: [[UInt8]: String]

  public init(_ task: TaskDefinition) {
    self.task = task
    fields = task.fields.map { (Array($0.name.utf8), $0) }
    answers = Dictionary(
      (task.answers ?? []).map { (Array($0.utf8), $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// - Parameter output: nil where the event has none.
  public func check(input: JSONView, output: JSONView?) -> Result {
    // No canonical form is five times as long as the text as it came.
    guard input.isObject, input.raw.count <= task.maximumInputBytes / 5 else { return .unclear }
    for (name, field) in fields where !isPlain(field, member(name, of: input)) { return .unclear }
    guard let output, !output.isNull else { return .taken(output: nil) }
    return answer(output)
  }

  private func member(_ name: [UInt8], of object: JSONView) -> JSONView? {
    var found: JSONView?
    object.forEachMember { key, value in
      if found == nil, key.isName(name) { found = value }
    }
    return found
  }

  private func isPlain(_ field: InputField, _ value: JSONView?) -> Bool {
    guard let value, !value.isNull else { return !field.required }
    guard value.isString, value.raw.count - 2 <= field.maximumBytes else { return false }
    // A visible ASCII character near the beginning; an escape may stand for white space.
    for byte in value.raw.dropFirst().prefix(32) {
      switch byte {
      case UInt8(ascii: "\\"), UInt8(ascii: "\""): return false
      case 0x21...0x7E: return true
      default: continue
      }
    }
    return false
  }

  private func answer(_ output: JSONView) -> Result {
    if task.kind == .rating, output.isNumber {
      return answers[Array(output.raw)].map { .taken(output: $0) } ?? .unclear
    }
    guard let bytes = output.plainBytes, bytes.count <= task.maximumOutputBytes else {
      return .unclear
    }
    if task.kind != .text { return answers[Array(bytes)].map { .taken(output: $0) } ?? .unclear }
    return isTrimmed(bytes) ? .taken(output: String(decoding: bytes, as: UTF8.self)) : .unclear
  }

  /// Whether a text is as the task would store it: no white space at its ends and, unless it may have lines, no
  /// other than single spaces within.
  private func isTrimmed(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
    var afterSpace = true
    for byte in text {
      switch byte {
      case 0x21...0x7E: afterSpace = false
      case 0x20:
        if afterSpace { return false }
        afterSpace = true
      // White space beyond ASCII and combining marks begin with one of these.
      case 0xC2, 0xCC, 0xCD, 0xE1...0xE3: return false
      case 0x80...: afterSpace = false
      default: return false
      }
    }
    return !afterSpace
  }
}
