// Where a command will write its results, tried before the work of hours begins.

import ErrorText
import Foundation

enum OutputFolder {
  /// Makes a folder where there is none.
  /// - Throws: ``OutputError`` where it is a file, cannot be made or cannot be written to.
  static func prepare(_ path: String, option: String = "--out") throws {
    var isFolder: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    guard !exists || isFolder.boolValue else {
      throw OutputError(option: option, path: path, problem: "it is a file; name a folder")
    }
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw OutputError(option: option, path: path, problem: ErrorText.reason(error))
    }
    guard FileManager.default.isWritableFile(atPath: path) else {
      throw OutputError(option: option, path: path, problem: "it cannot be written to")
    }
  }
}

/// A place for results cannot be used.
struct OutputError: Error, CustomStringConvertible {
  let option: String
  let path: String
  let problem: String
  var description: String { "\(option) \(path): \(problem)" }
}
