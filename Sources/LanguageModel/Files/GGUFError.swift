// What can be wrong with a GGUF file.

import Foundation
import LinearAlgebra

/// A GGUF file that cannot be used: which one, and why.
public struct GGUFError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// What is wrong; ``GGUFError/description`` has it in words.
  public enum Problem: Equatable, Sendable {
    case cannotOpen(String)
    case notGGUF
    /// What Git LFS leaves in the place of a file that was not fetched.
    case pointer
    case unsupportedVersion(UInt32)
    /// The file ends inside `what`, which begins at `offset`.
    case truncated(what: String, offset: Int)
    /// A number that no honest file holds.
    case absurd(what: String, value: UInt64, limit: UInt64)
    case invalidText(what: String, offset: Int)
    case unknownValueType(key: String, type: UInt32)
    case duplicateKey(String)
    case duplicateTensor(String)
    case unknownTensorType(tensor: String, type: UInt32)
    case badShape(tensor: String, shape: [Int], expected: String)
    case misaligned(tensor: String, offset: UInt64, alignment: Int)
    case overlapping(tensor: String, other: String)
    case outsideFile(tensor: String, offset: UInt64, bytes: Int, dataBytes: Int)
    case missingKey(String)
    case badValue(key: String, found: String, expected: String)
    case missingTensor(String)
    case unexpectedTensor(String)
    case unsupported(what: String, found: String, supported: String)
    /// The file is one part of a model, and another is not beside it.
    case missingPart(part: Int, of: Int, missing: Int, name: String)
    /// The file is one part of a model and is not called so that the others could be found.
    case unnamedPart(part: Int, of: Int, ending: String)
  }

  /// As it was given, or the part of the model in which the problem is.
  public let path: String
  public let problem: Problem

  public init(path: String, problem: Problem) {
    self.path = path
    self.problem = problem
  }

  public var errorDescription: String? { description }

  public var description: String { "The model file \(path) \(reason)." }

  /// How a Git LFS pointer begins.
  static let pointer = Array("version https://git-lfs".utf8)
  static let pointerReason = "is a pointer of Git LFS, not the file itself; git lfs pull fetches it"

  /// The description without the file's name.
  var reason: String {
    switch problem {
    case .cannotOpen(let reason): "cannot be opened: \(reason)"
    case .notGGUF: "is not a GGUF file: it does not begin with \"GGUF\""
    case .pointer: Self.pointerReason
    case .unsupportedVersion(let version):
      "has GGUF version \(version); versions 2 and 3, little-endian, can be read"
    case .truncated(let what, let offset):
      "ends inside \(what) at byte \(offset); it is cut short or damaged"
    case .absurd(let what, let value, let limit):
      "says \(value) for \(what), where at most \(limit) is possible; it is damaged"
    case .invalidText(let what, let offset): "has \(what) at byte \(offset) that is not UTF-8"
    case .unknownValueType(let key, let type):
      "has a value of unknown type \(type) under the key \"\(key)\""
    case .duplicateKey(let key): "has the key \"\(key)\" twice"
    case .duplicateTensor(let name): "has the tensor \"\(name)\" twice"
    case .unknownTensorType(let tensor, let type):
      "stores the tensor \"\(tensor)\" in type \(type); these can be read: "
        + WeightType.allCases.map(\.name).joined(separator: ", ")
    case .badShape(let tensor, let shape, let expected):
      "has the tensor \"\(tensor)\" with shape \(shape); expected \(expected)"
    case .misaligned(let tensor, let offset, let alignment):
      "puts the tensor \"\(tensor)\" at offset \(offset), not a multiple of \(alignment)"
    case .outsideFile(let tensor, let offset, let bytes, let dataBytes):
      "puts the tensor \"\(tensor)\" (\(bytes) bytes) at offset \(offset) of \(dataBytes) bytes "
        + "of data; it is cut short or damaged"
    case .overlapping(let tensor, let other):
      "puts the tensor \"\(tensor)\" where \"\(other)\" lies"
    case .missingKey(let key): "lacks the key \"\(key)\""
    case .badValue(let key, let found, let expected):
      "has \(found) under the key \"\(key)\"; expected \(expected)"
    case .missingTensor(let name): "lacks the tensor \"\(name)\""
    case .unexpectedTensor(let name):
      "has a tensor \"\(name)\" that its architecture as known here does not use"
    case .unsupported(let what, let found, let supported):
      "has \(what) \"\(found)\"; supported: \(supported)"
    case .missingPart(let part, let count, let missing, let name):
      "is part \(part) of \(count); part \(missing), \(name), is not in its folder"
    case .unnamedPart(let part, let count, let ending):
      "is part \(part) of \(count); the others are found by its name, which must end in \(ending)"
    }
  }
}
