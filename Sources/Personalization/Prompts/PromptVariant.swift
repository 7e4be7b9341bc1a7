// What stands in prompts beside the task's own words.

/// What of a user's past stands in a prompt.
public struct PromptVariant: Sendable, Hashable, Codable {
  /// How many past items are retrieved; 0 for none.
  public var retrieve: Int
  /// Whether the user's profile stands before them.
  public var profile: Bool

  public init(retrieve: Int = 0, profile: Bool = false) {
    self.retrieve = retrieve
    self.profile = profile
  }

  /// The task's own words and the input, nothing of the past.
  public static let plain = PromptVariant()

  /// As in names of arms and folders: `plain`, `rag-4`, `pag`, `rag-4+pag`.
  public var name: String {
    let parts = (retrieve > 0 ? ["rag-\(retrieve)"] : []) + (profile ? ["pag"] : [])
    return parts.isEmpty ? "plain" : parts.joined(separator: "+")
  }
}
