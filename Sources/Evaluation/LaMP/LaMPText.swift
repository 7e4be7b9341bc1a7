// One of LaMP's files as JSON, with every mistake at its line.

import ErrorText
import Foundation
import JSON

struct LaMPText {
  private let path: String
  /// Mapped: some files have gigabytes.
  private let data: Data

  /// - Throws: ``LaMPFileError`` where the file is not there or cannot be read.
  init(path: String) throws(LaMPFileError) {
    self.path = path
    guard FileManager.default.fileExists(atPath: path) else {
      throw LaMPFileError(file: path, problem: "there is no such file")
    }
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    } catch {
      throw LaMPFileError(
        file: path, problem: "the file cannot be read: \(ErrorText.reason(error))")
    }
  }

  /// The file's only value.
  /// - Throws: ``LaMPFileError``.
  func value() throws -> JSONValue {
    try withPlaces { try JSONValue(reading: data, rules: .datasets) }
  }

  /// Hands over the elements of the file's only value, an array, one after another.
  /// - Returns: false, having read nothing, where that value is no array.
  /// - Throws: ``LaMPFileError``; what `take` throws.
  func elements(_ take: (JSONValue) throws -> Void) throws -> Bool {
    try withPlaces {
      var reader = JSONReader(.datasets)
      return try data.withUnsafeBytes { bytes in
        try reader.readElements(bytes) { try take($0.value) }
      }
    }
  }

  private func withPlaces<Value>(_ read: () throws -> Value) throws -> Value {
    do {
      return try read()
    } catch let error as JSONReadingError {
      throw LaMPFileError(
        file: "\(path):\(error.line(in: data))", problem: "this is not JSON: \(error.problem)")
    }
  }
}
