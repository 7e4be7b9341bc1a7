// Safetensors files: a JSON header that names tensors and their byte ranges, then the bytes.
// Format: https://github.com/huggingface/safetensors ("Format"). Nothing in a file is trusted
// before it was checked against the file's own size.

import Foundation

/// The element types of the safetensors format.
public enum SafetensorsType: String, Sendable, CaseIterable {
  case bool = "BOOL"
  case uint8 = "U8"
  case int8 = "I8"
  case float8E5M2 = "F8_E5M2"
  case float8E4M3 = "F8_E4M3"
  case uint16 = "U16"
  case int16 = "I16"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case uint32 = "U32"
  case int32 = "I32"
  case float32 = "F32"
  case uint64 = "U64"
  case int64 = "I64"
  case float64 = "F64"

  /// Bytes of one element.
  public var size: Int {
    switch self {
    case .bool, .uint8, .int8, .float8E5M2, .float8E4M3: 1
    case .uint16, .int16, .float16, .bfloat16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    }
  }
}

/// Why a safetensors file was refused. `file` is the path or name that the caller gave.
public struct SafetensorsError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let file: String
  /// Goes on after the file's name and a colon.
  public let problem: String

  public init(file: String, problem: String) {
    self.file = file
    self.problem = problem
  }

  public var description: String { "\(file): \(problem)" }
  public var errorDescription: String? { description }
}

/// A safetensors file that was read and checked: every tensor lies inside the file, none overlap,
/// none leave holes, and each has as many bytes as its type and shape ask for.
public struct SafetensorsFile: Sendable {
  /// One tensor of a file.
  public struct Tensor: Sendable, Equatable {
    public let type: SafetensorsType
    /// Slowest-changing dimension first: a weight matrix is [rows, columns]. Empty for a single
    /// number.
    public let shape: [Int]
    /// Bytes, counted from the end of the header.
    public let range: Range<Int>

    /// Number of elements.
    public var count: Int { range.count / type.size }
  }

  /// A tensor to be written.
  public struct Entry: Sendable {
    public let name: String
    /// Slowest-changing dimension first; its product is the number of values.
    public let shape: [Int]
    /// Row-major.
    public let values: [Float]

    /// - Parameters:
    ///   - shape: slowest-changing dimension first.
    ///   - values: row-major, as many as the shape's product.
    public init(name: String, shape: [Int], values: [Float]) {
      self.name = name
      self.shape = shape
      self.values = values
    }
  }

  /// The format's own limit on the header.
  public static let headerLimit = 100_000_000
  /// More dimensions than any tensor here has.
  static let dimensionLimit = 8

  /// The path or name that errors begin with.
  public let name: String
  /// By name.
  public let tensors: [String: Tensor]
  /// The header's `__metadata__`; empty where it has none.
  public let metadata: [String: String]
  /// The file's mapping, nil for data in memory.
  private(set) var mapped: MappedFile?
  private let data: Data
  private let bodyStart: Int

  /// Opens a file; its tensors are mapped, not copied.
  /// - Throws: `SafetensorsError` naming the file and what is wrong with it.
  public init(path: String) throws {
    let mapped: MappedFile
    do throws(GGUFError) {
      mapped = try MappedFile(path: path)
    } catch {
      throw SafetensorsError(file: path, problem: error.reason)
    }
    var data = Data()
    if let start = UnsafeMutableRawPointer(mutating: mapped.bytes.baseAddress) {
      // Never written; the closure keeps the mapping for as long as the data lives.
      data = Data(
        bytesNoCopy: start, count: mapped.bytes.count,
        deallocator: .custom { _, _ in withExtendedLifetime(mapped) {} })
    }
    try self.init(data: data, name: path)
    self.mapped = mapped
  }

  /// Reads a file already in memory.
  /// - Throws: `SafetensorsError` with `name` and what is wrong.
  public init(data: Data, name: String = "safetensors data") throws {
    func refuse(_ problem: String) -> SafetensorsError { .init(file: name, problem: problem) }
    if data.starts(with: GGUFError.pointer) { throw refuse(GGUFError.pointerReason) }
    guard data.count >= 8 else {
      throw refuse("\(data.count) bytes are too few for a safetensors file")
    }
    var length: UInt64 = 0
    for (shift, byte) in data.prefix(8).enumerated() { length |= UInt64(byte) << (8 * shift) }
    guard length <= UInt64(Self.headerLimit) else {
      throw refuse("header length \(length) exceeds the limit of \(Self.headerLimit) bytes")
    }
    guard Int(length) <= data.count - 8 else {
      throw refuse("header length \(length) exceeds the \(data.count - 8) bytes that follow it")
    }
    let body = data.count - 8 - Int(length)
    let start = data.startIndex + 8
    let header = try data[start..<(start + Int(length))].withUnsafeBytes {
      try SafetensorsHeader($0, file: name)
    }

    var tensors: [String: Tensor] = [:]
    for entry in header.tensors {
      guard let type = SafetensorsType(rawValue: entry.type) else {
        throw refuse("tensor '\(entry.name)' has the unknown type '\(entry.type)'")
      }
      guard entry.begin <= entry.end, entry.end <= body else {
        throw refuse(
          "tensor '\(entry.name)' lies at bytes \(entry.begin)..<\(entry.end), outside the "
            + "\(body) bytes of data")
      }
      var size = type.size
      for dimension in entry.shape {
        let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
        guard !overflow else { throw refuse("the shape of tensor '\(entry.name)' overflows") }
        size = product
      }
      guard size == entry.end - entry.begin else {
        throw refuse(
          "tensor '\(entry.name)' has \(entry.end - entry.begin) bytes where its type "
            + "\(type.rawValue) and shape \(entry.shape) need \(size)")
      }
      tensors[entry.name] = Tensor(
        type: type, shape: entry.shape, range: entry.begin..<entry.end)
    }
    var position = 0
    let inOrder = tensors.sorted {
      ($0.value.range.lowerBound, $0.value.range.upperBound)
        < ($1.value.range.lowerBound, $1.value.range.upperBound)
    }
    for (tensorName, tensor) in inOrder {
      guard tensor.range.lowerBound == position else {
        let relation = tensor.range.lowerBound < position ? "overlaps" : "leaves a hole after"
        throw refuse("tensor '\(tensorName)' \(relation) the tensor before it")
      }
      position = tensor.range.upperBound
    }
    guard position == body else {
      throw refuse("\(body - position) bytes at the end belong to no tensor")
    }
    self.name = name
    self.tensors = tensors
    self.metadata = header.metadata
    self.data = data
    self.bodyStart = start + Int(length)
  }

  /// Where a tensor's bytes lie in the file.
  func bytes(of tensor: Tensor) -> Range<Int> {
    bodyStart + tensor.range.lowerBound..<bodyStart + tensor.range.upperBound
  }

  /// The values of a tensor as 32-bit floats; F32, F16 and BF16 are understood.
  /// - Throws: `SafetensorsError` where there is no such tensor or it has another type.
  public func floats(_ tensorName: String) throws -> [Float] {
    guard let tensor = tensors[tensorName] else {
      throw SafetensorsError(file: name, problem: "has no tensor '\(tensorName)'")
    }
    let range = (bodyStart + tensor.range.lowerBound)..<(bodyStart + tensor.range.upperBound)
    return try data[range].withUnsafeBytes { bytes in
      switch tensor.type {
      case .float32:
        return (0..<tensor.count).map {
          Float(
            bitPattern: UInt32(
              littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
        }
      case .bfloat16:
        return (0..<tensor.count).map {
          let bits = UInt16(
            littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self))
          return Float(bitPattern: UInt32(bits) << 16)
        }
      case .float16:
        return (0..<tensor.count).map {
          Self.float(
            half: UInt16(
              littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
        }
      default:
        throw SafetensorsError(
          file: name,
          problem: "tensor '\(tensorName)' has type \(tensor.type.rawValue); "
            + "F32, F16 or BF16 was expected")
      }
    }
  }

  /// IEEE 754 binary16 to binary32, written out because not every platform has `Float16`.
  static func float(half: UInt16) -> Float {
    let sign = UInt32(half >> 15) << 31
    let exponent = UInt32(half >> 10) & 0x1F
    let fraction = UInt32(half) & 0x3FF
    switch exponent {
    case 0:
      let magnitude = Float(fraction) * 0x1p-24
      return sign == 0 ? magnitude : -magnitude
    case 0x1F: return Float(bitPattern: sign | 0x7F80_0000 | (fraction << 13))
    default: return Float(bitPattern: sign | ((exponent + 112) << 23) | (fraction << 13))
    }
  }

  /// A file holding `entries` as F32 in order of name, with its header padded to eight bytes as the
  /// reference writer does.
  /// - Throws: `SafetensorsError` for a repeated name or a shape that is not that of its values.
  public static func encode(_ entries: [Entry], metadata: [String: String] = [:]) throws -> Data {
    let sorted = entries.sorted { $0.name < $1.name }
    for (entry, next) in zip(sorted, sorted.dropFirst()) where entry.name == next.name {
      throw SafetensorsError(file: "safetensors data", problem: "two tensors '\(entry.name)'")
    }
    var parts: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map {
        "\(quoted($0.key)):\(quoted($0.value))"
      }
      parts.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var offset = 0
    for entry in sorted {
      guard entry.shape.reduce(1, *) == entry.values.count, entry.name != "__metadata__" else {
        throw SafetensorsError(
          file: "safetensors data",
          problem: "tensor '\(entry.name)' has \(entry.values.count) values for \(entry.shape)")
      }
      let end = offset + 4 * entry.values.count
      let shape = entry.shape.map(String.init).joined(separator: ",")
      parts.append(
        "\(quoted(entry.name)):{\"dtype\":\"F32\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var header = Data("{\(parts.joined(separator: ","))}".utf8)
    header.append(contentsOf: repeatElement(0x20, count: (8 - header.count % 8) % 8))
    var file = Data(capacity: 8 + header.count + offset)
    withUnsafeBytes(of: UInt64(header.count).littleEndian) { file.append(contentsOf: $0) }
    file.append(header)
    for entry in sorted {
      #if _endian(little)
        entry.values.withUnsafeBytes { file.append(contentsOf: $0) }
      #else
        for value in entry.values {
          withUnsafeBytes(of: value.bitPattern.littleEndian) { file.append(contentsOf: $0) }
        }
      #endif
    }
    return file
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
