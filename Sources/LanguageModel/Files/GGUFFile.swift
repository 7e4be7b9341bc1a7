// The GGUF container: metadata and tensors of a model in mapped files.
//
// The format is described in ggml's docs/gguf.md. Nothing in a file is trusted: every count, length
// and offset is checked against the bytes that are there before it is used.

import Foundation
import LinearAlgebra

/// A metadata value.
public enum GGUFValue: Sendable, Equatable {
  case unsigned(UInt64)
  case signed(Int64)
  case float(Double)
  case bool(Bool)
  case string(String)
  case array([GGUFValue])

  var summary: String {
    switch self {
    case .unsigned(let value): "\(value)"
    case .signed(let value): "\(value)"
    case .float(let value): "\(value)"
    case .bool(let value): "\(value)"
    case .string(let value): "\"\(value.prefix(64))\""
    case .array(let values): "an array of \(values.count)"
    }
  }
}

/// A tensor as the file describes it.
public struct GGUFTensor: Sendable {
  public let name: String
  public let type: WeightType
  /// Fastest-changing dimension first, as in the file: a weight matrix is [columns, rows].
  public let shape: [Int]
  /// Of its blocks in the file, without padding.
  public let byteCount: Int
  let offset: Int
}

/// An opened GGUF file, or all files of a model that was cut into parts. The tensors' bytes stay in the
/// files until they are used.
public final class GGUFFile: Sendable {
  /// As it was given; of a model in parts, that of the part which was opened.
  public let path: String
  /// Of the format: 2 or 3.
  public let version: UInt32
  /// Of the first part; the others have none of their own.
  public let metadata: [String: GGUFValue]
  /// In the files' order.
  public let tensors: [GGUFTensor]
  /// In the parts' order.
  let files: [MappedFile]
  private let index: [String: (tensor: GGUFTensor, file: MappedFile)]

  /// Reads and checks everything but the weights. Throws ``GGUFError``.
  public convenience init(path: String) throws(GGUFError) {
    try self.init(GGUFPart.open(path), path: path)
  }

  /// A file that is in memory already.
  convenience init(_ file: MappedFile) throws(GGUFError) {
    try self.init([GGUFPart(file)], path: file.path)
  }

  private init(_ parts: [GGUFPart], path: String) throws(GGUFError) {
    var index: [String: (tensor: GGUFTensor, file: MappedFile)] = [:]
    for part in parts {
      for tensor in part.tensors
      where index.updateValue((tensor, part.file), forKey: tensor.name) != nil {
        throw part.error(.duplicateTensor(tensor.name))
      }
    }
    self.path = path
    self.index = index
    version = parts[0].version
    metadata = parts[0].metadata
    tensors = parts.flatMap(\.tensors)
    files = parts.map(\.file)
  }

  /// The tensor of that name.
  public func tensor(_ name: String) -> GGUFTensor? { index[name]?.tensor }

  func error(_ problem: GGUFError.Problem) -> GGUFError { GGUFError(path: path, problem: problem) }

  /// The matrix of that name, which must have the given shape. The weights stay in the file.
  func matrix(_ name: String, rows: Int, columns: Int) throws(GGUFError) -> QuantizedMatrix {
    try matrix(name, shape: [columns, rows], rows: rows, columns: columns)
  }

  /// The vector of that name, expanded to f32.
  func vector(_ name: String, count: Int) throws(GGUFError) -> [Float] {
    let row = try matrix(name, shape: [count], rows: 1, columns: count)
    return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      if let base = buffer.baseAddress { row.expand(rows: 0..<1, into: base) }
      initialized = count
    }
  }

  private func matrix(
    _ name: String, shape: [Int], rows: Int, columns: Int
  ) throws(GGUFError) -> QuantizedMatrix {
    guard let (tensor, file) = index[name] else { throw error(.missingTensor(name)) }
    guard tensor.shape == shape else {
      throw error(.badShape(tensor: name, shape: tensor.shape, expected: "\(shape)"))
    }
    return QuantizedMatrix(
      type: tensor.type, rows: rows, columns: columns,
      bytes: UnsafeRawBufferPointer(
        rebasing: file.bytes[tensor.offset..<tensor.offset + tensor.byteCount]), owner: file)
  }
}

/// One file of a model.
struct GGUFPart {
  let file: MappedFile
  let version: UInt32
  let metadata: [String: GGUFValue]
  /// In the file's order.
  let tensors: [GGUFTensor]

  func error(_ problem: GGUFError.Problem) -> GGUFError {
    GGUFError(path: file.path, problem: problem)
  }

  init(_ file: MappedFile) throws(GGUFError) {
    let path = file.path
    var cursor = GGUFCursor(bytes: file.bytes, path: path)
    if file.bytes.starts(with: GGUFError.pointer) {
      throw GGUFError(path: path, problem: .pointer)
    }
    guard file.bytes.count >= 4, file.bytes.prefix(4).elementsEqual("GGUF".utf8) else {
      throw GGUFError(path: path, problem: .notGGUF)
    }
    cursor.position = 4
    version = try cursor.integer("the version")
    guard version == 2 || version == 3 else {
      throw GGUFError(path: path, problem: .unsupportedVersion(version))
    }
    let tensorCount = try cursor.count("the number of tensors", elementBytes: 24)
    let keyCount = try cursor.count("the number of keys", elementBytes: 13)

    var metadata: [String: GGUFValue] = [:]
    for index in 0..<keyCount {
      let key = try cursor.string("the name of key \(index)", limit: 1 << 16)
      let type: UInt32 = try cursor.integer("the type of \"\(key)\"")
      let value = try cursor.value(type: type, key: key, depth: 0)
      guard metadata.updateValue(value, forKey: key) == nil else {
        throw GGUFError(path: path, problem: .duplicateKey(key))
      }
    }

    var alignment = 32
    if let value = metadata["general.alignment"] {
      guard case .unsigned(let number) = value, number >= 8, number <= 65536,
        number.nonzeroBitCount == 1
      else {
        throw GGUFError(
          path: path,
          problem: .badValue(
            key: "general.alignment", found: value.summary, expected: "a power of 2 from 8 to 65536"
          ))
      }
      alignment = Int(number)
    }

    var described: [(name: String, shape: [Int], type: WeightType, offset: UInt64)] = []
    var names: Set<String> = []
    for index in 0..<tensorCount {
      let tensor = try cursor.tensor(index: index)
      guard names.insert(tensor.name).inserted else {
        throw GGUFError(path: path, problem: .duplicateTensor(tensor.name))
      }
      described.append(tensor)
    }

    let dataStart = (cursor.position + alignment - 1) / alignment * alignment
    let dataBytes = max(file.bytes.count - dataStart, 0)
    var tensors: [GGUFTensor] = []
    for (name, shape, type, offset) in described {
      let count = shape.reduce(1, *)
      guard shape[0] % type.blockLength == 0 else {
        throw GGUFError(
          path: path,
          problem: .badShape(
            tensor: name, shape: shape,
            expected: "rows of whole blocks of \(type.blockLength) for \(type.name)"))
      }
      guard offset % UInt64(alignment) == 0 else {
        throw GGUFError(
          path: path, problem: .misaligned(tensor: name, offset: offset, alignment: alignment))
      }
      let bytes = count / type.blockLength * type.blockBytes
      guard bytes <= dataBytes, offset <= UInt64(dataBytes - bytes) else {
        throw GGUFError(
          path: path,
          problem: .outsideFile(tensor: name, offset: offset, bytes: bytes, dataBytes: dataBytes))
      }
      tensors.append(
        GGUFTensor(
          name: name, type: type, shape: shape, byteCount: bytes, offset: dataStart + Int(offset)))
    }
    // No byte serves two tensors, so that what is made of them stays in proportion to the file.
    let inOrder = tensors.sorted { $0.offset < $1.offset }
    for (first, second) in zip(inOrder, inOrder.dropFirst())
    where second.offset < first.offset + first.byteCount {
      throw GGUFError(
        path: path, problem: .overlapping(tensor: second.name, other: first.name))
    }
    self.file = file
    self.metadata = metadata
    self.tensors = tensors
  }
}
