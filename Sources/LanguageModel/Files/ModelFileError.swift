// What can be wrong with a file of a Hugging Face model folder.

import Foundation

/// A file of a model folder that cannot be used: which one, and why.
public struct ModelFileError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// The name or path of the file, as the description begins with it.
  public let file: String
  /// Goes on after the file's name: `lacks the key "hidden_size"`.
  public let problem: String

  public init(file: String, problem: String) {
    self.file = file
    self.problem = problem
  }

  public var description: String { "The model file \(file) \(problem)." }
  public var errorDescription: String? { description }
}
