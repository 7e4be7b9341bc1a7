// Reading and writing results.json, with errors that name the file and the key.

import ErrorText
import Foundation

/// A results file that cannot be used.
public struct ResultsFileError: Error, CustomStringConvertible, Equatable {
  public let file: String
  /// The path of the key, such as `arms.oppu.n`; empty for the file as a whole.
  public let key: String
  /// What is wrong with it, as the end of a sentence.
  public let problem: String

  public var description: String {
    key.isEmpty ? "\(file): \(problem)" : "\(file), key \"\(key)\": \(problem)"
  }
}

extension EvaluationResults {
  /// The file's name in a results folder.
  public static let fileName = "results.json"

  /// The results as JSON: pretty, keys sorted.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    var data = try encoder.encode(self)
    data.append(UInt8(ascii: "\n"))
    return data
  }

  /// Writes results.json into a folder, whole or not at all.
  public func write(toFolder folder: URL) throws {
    try json().write(to: folder.appending(path: Self.fileName), options: .atomic)
  }

  /// Reads JSON. Throws `ResultsFileError`.
  public init(json: Data, file: String) throws {
    let decoder = JSONDecoder()
    // Foundation's own ISO 8601 strategy names the object, not the key.
    decoder.dateDecodingStrategy = .custom { decoder in
      let container = try decoder.singleValueContainer()
      let text = try container.decode(String.self)
      guard let date = try? Date(text, strategy: .iso8601) else {
        throw DecodingError.dataCorruptedError(
          in: container, debugDescription: "expected a time such as 2026-09-21T14:13:20Z")
      }
      return date
    }
    do {
      self = try decoder.decode(EvaluationResults.self, from: json)
    } catch let error as DecodingError {
      throw ResultsFileError(decoding: error, file: file)
    }
  }

  /// Reads a file. Throws `ResultsFileError`.
  public init(file: URL) throws {
    let data: Data
    do {
      data = try Data(contentsOf: file)
    } catch {
      throw ResultsFileError(
        file: file.path, key: "", problem: "cannot be read: \(ErrorText.reason(error))")
    }
    try self.init(json: data, file: file.path)
  }

  /// The results of one evaluation (FOLDER/results.json) or of several (FOLDER/*/results.json, by
  /// ascending name). Throws `ResultsFileError` for the first that cannot be read, and where there
  /// is none.
  public static func all(inFolder folder: URL) throws -> [EvaluationResults] {
    let manager = FileManager.default
    let own = folder.appending(path: fileName)
    if manager.fileExists(atPath: own.path) { return [try EvaluationResults(file: own)] }
    let names = (try? manager.contentsOfDirectory(atPath: folder.path)) ?? []
    let files = names.sorted().map { folder.appending(path: $0).appending(path: fileName) }
      .filter { manager.fileExists(atPath: $0.path) }
    guard !files.isEmpty else {
      throw ResultsFileError(
        file: folder.path, key: "",
        problem: "expected \(fileName), or folders that hold one; found neither")
    }
    return try files.map(EvaluationResults.init(file:))
  }
}

extension ResultsFileError {
  init(decoding error: DecodingError, file: String) {
    func path(_ keys: [any CodingKey]) -> String {
      keys.reduce("") { path, key in
        if let index = key.intValue { return "\(path)[\(index)]" }
        return path.isEmpty ? key.stringValue : "\(path).\(key.stringValue)"
      }
    }
    self.file = file
    switch error {
    case .keyNotFound(let key, let context):
      self.key = path(context.codingPath + [key])
      problem = "is missing"
    case .valueNotFound(let type, let context):
      self.key = path(context.codingPath)
      problem = "expected \(Self.words(for: type)), found null"
    case .typeMismatch(let type, let context):
      self.key = path(context.codingPath)
      problem = "expected \(Self.words(for: type)), found something else"
    case .dataCorrupted(let context):
      self.key = path(context.codingPath)
      problem =
        context.codingPath.isEmpty
        ? "is not JSON; it may have been cut off"
        : "cannot be understood: \(context.debugDescription)"
    @unknown default:
      self.key = ""
      problem = "cannot be understood: \(error)"
    }
  }

  private static func words(for type: any Any.Type) -> String {
    switch type {
    case is String.Type, is Date.Type: "a string"
    case is Bool.Type: "true or false"
    case is any BinaryInteger.Type: "a whole number"
    case is Double.Type: "a number"
    case is [Any].Type: "an array"
    default: "\(type)".hasPrefix("Array") ? "an array" : "an object"
    }
  }
}

/// A key of a map whose names are data.
struct NameKey: CodingKey, ExpressibleByStringLiteral {
  let stringValue: String
  var intValue: Int? { nil }

  init(_ name: String) { stringValue = name }
  init(stringLiteral value: String) { stringValue = value }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

extension KeyedDecodingContainer<NameKey> {
  func missing(_ name: String) -> DecodingError {
    .keyNotFound(
      NameKey(name), .init(codingPath: codingPath, debugDescription: "No value for \(name)"))
  }
}

extension Double {
  /// Nil for NaN and infinities, which JSON does not have.
  var finite: Double? { isFinite ? self : nil }
}
