// A message of the reply topic: the answer, what it was made from, and what it took.

import Foundation
import Personalization

/// The reply to a request; docs/schemas says the same of its JSON.
public struct PersonalizationReply: Sendable, Codable {
  /// Whether there is an answer.
  public enum Status: String, Sendable, Codable { case ok, error }

  /// What made the answer this user's own.
  public struct Personalization: Sendable, Codable {
    /// Of the user's own adapter; nil where none was used.
    public var adapterVersion: Int?
    /// Of the task's adapter; nil where there is none.
    public var taskAdapterVersion: Int?
    /// Event ids of the history items in the prompt, most relevant first.
    public var retrieved: [String] = []
    /// Of the profile that the model wrote; nil where the prompt has none of these.
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

  /// Tokens that the answer took.
  public struct Usage: Sendable, Codable {
    /// Of the whole prompt.
    public var promptTokens = 0
    /// Of the answer.
    public var completionTokens = 0
    /// Of the prompt, those that an earlier request of the user had computed.
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

  /// Why there is no answer.
  public struct Failure: Sendable, Codable {
    /// A ``MessageError/Code``'s raw value.
    public var code: String
    /// A sentence for whoever sent the request.
    public var message: String
  }

  /// The request's; where it told none, made of the place of its message.
  public var requestID: String
  /// Nil where the message told none.
  public var userID: String?
  /// As the request named it; nil where it named none.
  public var task: String?
  public var status: Status
  /// In the task's form; nil where there is no answer.
  public var output: String?
  /// Nil where there is no answer.
  public var personalization: Personalization?
  /// The name of the base model's file or folder.
  public var model: String
  /// Nil where there is no answer.
  public var usage: Usage?
  /// Nil where there is no answer.
  public var timing: Timing?
  /// Nil where there is an answer.
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
