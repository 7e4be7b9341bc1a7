// A message of the reply topic: the answer, what it was made from, and what it took.

import Foundation
import Personalization

public struct PersonalizationReply: Sendable, Codable {
  public enum Status: String, Sendable, Codable { case ok, error }

  /// What made the answer this user's own.
  public struct Personalization: Sendable, Codable {
    public var adapterVersion: Int?
    public var taskAdapterVersion: Int?
    /// Event ids of the history items in the prompt, most relevant first.
    public var retrieved: [String] = []
    public var profileVersion: Int?
    /// Why no adapter was used although one was asked for.
    public var note: String?

    enum CodingKeys: String, CodingKey {
      case adapterVersion = "adapter_version"
      case taskAdapterVersion = "task_adapter_version"
      case retrieved
      case profileVersion = "profile_version"
      case note
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(adapterVersion, forKey: .adapterVersion)
      try container.encode(taskAdapterVersion, forKey: .taskAdapterVersion)
      try container.encode(retrieved, forKey: .retrieved)
      try container.encode(profileVersion, forKey: .profileVersion)
      try container.encode(note, forKey: .note)
    }
  }

  public struct Usage: Sendable, Codable {
    public var promptTokens = 0
    public var completionTokens = 0
    public var cachedTokens = 0

    enum CodingKeys: String, CodingKey {
      case promptTokens = "prompt_tokens"
      case completionTokens = "completion_tokens"
      case cachedTokens = "cached_tokens"
    }
  }

  /// Milliseconds spent waiting, loading history and adapter, on the prompt, and on the answer.
  public struct Timing: Sendable, Codable {
    public var queue = 0.0
    public var load = 0.0
    public var prefill = 0.0
    public var decode = 0.0
  }

  public struct Failure: Sendable, Codable {
    public var code: String
    public var message: String
  }

  public var requestID: String
  public var userID: String?
  public var task: String?
  public var status: Status
  public var output: String?
  public var personalization: Personalization?
  public var model: String
  public var usage: Usage?
  public var timing: Timing?
  public var error: Failure?

  enum CodingKeys: String, CodingKey {
    case task, status, output, personalization, model, usage, error
    case requestID = "request_id"
    case userID = "user_id"
    case timing = "timing_ms"
  }

  /// Absent parts are written as null, here and in ``Personalization``, so that every reply has the same keys.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(requestID, forKey: .requestID)
    try container.encode(userID, forKey: .userID)
    try container.encode(task, forKey: .task)
    try container.encode(status, forKey: .status)
    try container.encode(output, forKey: .output)
    try container.encode(personalization, forKey: .personalization)
    try container.encode(model, forKey: .model)
    try container.encode(usage, forKey: .usage)
    try container.encode(timing, forKey: .timing)
    try container.encode(error, forKey: .error)
  }
}
