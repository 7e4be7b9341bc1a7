// The default model with its first layers only: real words, real weights, a quarter of the time. For tests in which
// it matters that a model answers and learns, and not what.

import Foundation
import TestSupport

@testable import LanguageModel

enum ShallowModel {
  private static let layers = 4

  /// A GGUF file that is removed when the test process ends.
  static let path: String = {
    let file = Servers.folder("model")
    do {
      try FileManager.default.createDirectory(at: file, withIntermediateDirectories: true)
      let path = file.appending(path: "shallow.gguf")
      try make(from: Paths.model).write(to: path)
      return path.path
    } catch { fatalError("no shallow model of \(Paths.model): \(error)") }
  }()

  /// Header and metadata as they are but for two counts, then the tensors that are kept.
  private static func make(from path: String) throws -> Data {
    let whole = try Data(contentsOf: URL(filePath: path), options: .alwaysMapped)
    let tensors = try GGUFFile(path: path).tensors
    let kept = tensors.filter { tensor in
      let parts = tensor.name.split(separator: ".")
      return parts.first != "blk" || parts.dropFirst().first.flatMap { Int($0) }! < layers
    }
    // Descriptions of tensors begin with the first one's name, layers are counted in a u32.
    let firstName = bytes(tensors[0].name)
    let key = bytes("llama.block_count")
    guard let descriptions = whole.firstRange(of: firstName)?.lowerBound,
      let count = whole.firstRange(of: key)?.upperBound
    else { throw Timeout(description: "\(path) is no llama") }
    var made = Data(whole[..<descriptions])
    made.replaceSubrange(8..<16, with: bytes(UInt64(kept.count)))
    made.replaceSubrange(count + 4..<count + 8, with: bytes(UInt32(layers)))
    var data = Data()
    for tensor in kept {
      made += bytes(tensor.name) + bytes(UInt32(tensor.shape.count))
      for length in tensor.shape { made += bytes(UInt64(length)) }
      made += bytes(UInt32(tensor.type.rawValue)) + bytes(UInt64(data.count))
      data += whole[tensor.offset..<tensor.offset + tensor.byteCount]
      pad(&data)
    }
    pad(&made)
    return made + data
  }

  private static func pad(_ data: inout Data) {
    data += Data(count: (32 - data.count % 32) % 32)
  }

  private static func bytes<Number: FixedWidthInteger>(_ number: Number) -> Data {
    withUnsafeBytes(of: number.littleEndian) { Data($0) }
  }

  private static func bytes(_ text: String) -> Data {
    bytes(UInt64(text.utf8.count)) + Data(text.utf8)
  }
}
