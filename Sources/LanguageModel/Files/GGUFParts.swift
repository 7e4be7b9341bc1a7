// The files of one model: a GGUF file alone, or all parts of one that llama.cpp's gguf-split has cut.

import Foundation

extension GGUFPart {
  private static let count = "split.count"
  private static let number = "split.no"
  private static let tensors = "split.tensors.count"
  private static let most = 1_024

  /// The file, or all parts of the model that it is a part of, in order.
  /// - Throws: ``GGUFError``, which names a part that is not there.
  static func open(_ path: String) throws(GGUFError) -> [GGUFPart] {
    let opened = try GGUFPart(MappedFile(path: path))
    let count = try opened.whole(Self.count) ?? 1
    guard count > 1 else { return [opened] }
    guard count <= most else {
      throw opened.error(.absurd(what: Self.count, value: UInt64(count), limit: UInt64(most)))
    }
    let number = try opened.whole(Self.number) ?? 0
    let url = URL(fileURLWithPath: path)
    let ending = ending(number, of: count)
    let name = url.lastPathComponent
    guard number < count, name.hasSuffix(ending) else {
      throw opened.error(.unnamedPart(part: number + 1, of: count, ending: ending))
    }
    let beginning = name.dropLast(ending.count)
    var parts: [GGUFPart] = []
    for other in 0..<count {
      guard other != number else {
        parts.append(opened)
        continue
      }
      let name = beginning + Self.ending(other, of: count)
      let file = url.deletingLastPathComponent().appendingPathComponent(String(name)).path
      guard FileManager.default.fileExists(atPath: file) else {
        throw opened.error(
          .missingPart(part: number + 1, of: count, missing: other + 1, name: String(name)))
      }
      let part = try GGUFPart(MappedFile(path: file))
      guard try part.whole(Self.count) == count, try part.whole(Self.number) == other else {
        throw part.error(
          .badValue(
            key: Self.number, found: part.metadata[Self.number]?.summary ?? "nothing",
            expected: "\(other) of \(count), as its name says"))
      }
      parts.append(part)
    }
    let found = parts.reduce(0) { $0 + $1.tensors.count }
    if let total = try parts[0].whole(tensors), total != found {
      throw parts[0].error(
        .badValue(key: tensors, found: "\(total)", expected: "\(found), which its parts have"))
    }
    return parts
  }

  /// gguf-split's: `-00001-of-00003.gguf`.
  private static func ending(_ number: Int, of count: Int) -> String {
    String(format: "-%05d-of-%05d.gguf", number + 1, count)
  }

  /// A whole number from 0; nil where the key is not there.
  private func whole(_ key: String) throws(GGUFError) -> Int? {
    switch metadata[key] {
    case nil: return nil
    case .unsigned(let value) where value <= UInt64(Int32.max): return Int(value)
    case .signed(let value) where value >= 0 && value <= Int64(Int32.max): return Int(value)
    case .some(let other):
      throw error(.badValue(key: key, found: other.summary, expected: "a whole number from 0"))
    }
  }
}
