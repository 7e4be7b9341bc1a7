// Settings of any kind as a tree, and the tree as lines for a table.

import Foundation
import JSON
import Personalization

extension JSONValue {
  /// Any value that can be written as JSON, as a tree. Numbers that JSON cannot hold become texts.
  public init(encoding value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "infinity", negativeInfinity: "-infinity", nan: "nan")
    self = try JSONDecoder().decode(JSONValue.self, from: encoder.encode(value))
  }

  /// The leaves as lines of path and text: "lora.rank", "8". Arrays of plain values are one line.
  var lines: [(path: String, text: String)] { lines(under: "") }

  private func lines(under path: String) -> [(path: String, text: String)] {
    switch self {
    case .object(let members) where !members.isEmpty:
      members.sorted { $0.key < $1.key }.flatMap { name, value in
        value.lines(under: path.isEmpty ? name : "\(path).\(name)")
      }
    case .array(let values) where values.contains(where: \.isTree):
      values.enumerated().flatMap { $1.lines(under: "\(path)[\($0)]") }
    default: [(path, isNull ? "–" : plainText ?? "")]
    }
  }

  private var isTree: Bool { array != nil || object != nil }
}
