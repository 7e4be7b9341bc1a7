// What a study has done so far, as files of its results folder.

import Cryptography
import ErrorText
import Foundation

/// What tells a file of another study from a damaged one.
private struct Mark: Decodable {
  var fingerprint: String
}

/// Outcomes by key, each in a file of its own, all of one study.
struct OutcomeFiles<Outcome: Codable> {
  private struct File: Codable {
    var fingerprint: String
    var outcome: Outcome
  }

  let folder: URL
  let fingerprint: String

  /// - Parameters:
  ///   - results: the folder that errors name.
  ///   - fingerprint: of everything that all outcomes depend on.
  /// - Throws: ``EvaluationError/otherSettings(folder:)`` where the folder's outcomes are of another
  ///   study; ``EvaluationError/folder(_:)`` where it cannot be made.
  init(folder: URL, of results: URL, fingerprint: String) throws {
    self.folder = folder
    self.fingerprint = fingerprint
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw EvaluationError.folder("\(folder.path) cannot be made: \(ErrorText.reason(error))")
    }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    for name in names where name.hasSuffix(".json") {
      let file = folder.appending(path: name)
      guard read(file) == nil else { continue }
      let other = try? JSONDecoder().decode(Mark.self, from: Data(contentsOf: file)).fingerprint
      guard let other, other != fingerprint else {
        throw EvaluationError.folder(
          "\(file.path) is damaged; remove it, and what it held is computed again")
      }
      throw EvaluationError.otherSettings(folder: results.path)
    }
  }

  private func read(_ file: URL) -> Outcome? {
    guard let data = try? Data(contentsOf: file),
      let stored = try? JSONDecoder().decode(File.self, from: data),
      stored.fingerprint == fingerprint
    else { return nil }
    return stored.outcome
  }

  /// Keys hold anybody's words: a file is called by their hash.
  private func file(_ key: String) -> URL {
    let hash = SHA256.hash(data: Data(key.utf8)).prefix(12)
    return folder.appending(path: hash.hexadecimal + ".json")
  }

  func outcome(_ key: String) -> Outcome? { read(file(key)) }

  func keep(_ outcome: Outcome, as key: String) throws {
    let data = try JSONEncoder().encode(File(fingerprint: fingerprint, outcome: outcome))
    try data.write(to: file(key), options: .atomic)
  }
}
