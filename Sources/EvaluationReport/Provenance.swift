// Where results come from: enough to run the evaluation again.

import Foundation

/// How results were made.
public struct Provenance: Codable, Sendable, Equatable {
  /// The base model.
  public struct Model: Codable, Sendable, Equatable {
    public var name: String
    /// `LlamaModel.fingerprint`: a SHA-256 in hexadecimal.
    public var fingerprint: String

    public init(name: String, fingerprint: String) {
      self.name = name
      self.fingerprint = fingerprint
    }
  }

  /// A file that was read.
  public struct DataFile: Codable, Sendable, Equatable {
    /// As named on the command line.
    public var file: String
    /// Of its bytes, in lower-case hexadecimal.
    public var sha256: String

    public init(file: String, sha256: String) {
      self.file = file
      self.sha256 = sha256
    }
  }

  /// By name: "oppu-worker", "swift", "openblas", …
  public var versions: [String: String]
  /// Of all that was drawn at random.
  public var seed: UInt64
  public var model: Model
  /// Processor, cores, memory, operating system, in words.
  public var machine: String
  /// The program and its arguments, with blanks between.
  public var commandLine: String
  public var started: Date
  /// Absent while the evaluation runs, or where it was stopped.
  public var finished: Date?
  public var data: [DataFile]

  public init(
    versions: [String: String], seed: UInt64, model: Model, machine: String, commandLine: String,
    started: Date, finished: Date? = nil, data: [DataFile] = []
  ) {
    self.versions = versions
    self.seed = seed
    self.model = model
    self.machine = machine
    self.commandLine = commandLine
    self.started = started
    self.finished = finished
    self.data = data
  }

  private enum CodingKeys: String, CodingKey {
    case versions, seed, model, machine, started, finished, data
    case commandLine = "command_line"
  }
}
