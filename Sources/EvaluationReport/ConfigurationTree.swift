// Settings of any kind as a tree, and the tree as lines for a table.

import Foundation
import JSON
import Personalization

extension JSONValue {
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
