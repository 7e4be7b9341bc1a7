// Small GGUF files written: metadata and f32 tensors (version 3, ggml's docs/gguf.md).

import Foundation

/// A GGUF file in the making.
struct GGUFWriter {
  static let alignment = 32

  private var metadata: [(key: String, value: GGUFValue)] = []
  private var tensors: [(name: String, shape: [Int], values: [Float])] = []

  init() {}

  /// Sets a key that is not set yet: text, a float (as f32), or a whole number (as u32).
  mutating func set(_ key: String, _ value: GGUFValue) { metadata.append((key, value)) }

  /// Adds a tensor; the shape has the fastest-changing dimension first.
  mutating func add(_ name: String, shape: [Int], values: [Float]) {
    precondition(shape.reduce(1, *) == values.count)
    tensors.append((name, shape, values))
  }

  /// The file's bytes.
  func encode() -> Data {
    var data = Data("GGUF".utf8)
    func append<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
    func append(_ text: String) {
      append(UInt64(text.utf8.count))
      data.append(contentsOf: text.utf8)
    }
    func pad() {
      data.append(
        contentsOf: repeatElement(
          0, count: (Self.alignment - data.count % Self.alignment) % Self.alignment))
    }
    append(UInt32(3))
    append(UInt64(tensors.count))
    append(UInt64(metadata.count))
    for (key, value) in metadata {
      append(key)
      switch value {
      case .string(let text):
        append(UInt32(8))
        append(text)
      case .float(let number):
        append(UInt32(6))
        append(Float(number).bitPattern)
      case .unsigned(let number):
        append(UInt32(4))
        append(UInt32(clamping: number))
      default: preconditionFailure("No value of this type is written")
      }
    }
    var offset = 0
    for tensor in tensors {
      append(tensor.name)
      append(UInt32(tensor.shape.count))
      for length in tensor.shape { append(UInt64(length)) }
      append(UInt32(0))
      append(UInt64(offset))
      offset +=
        (tensor.values.count * 4 + Self.alignment - 1) / Self.alignment * Self.alignment
    }
    pad()
    for tensor in tensors {
      for value in tensor.values { append(value.bitPattern) }
      pad()
    }
    return data
  }
}
