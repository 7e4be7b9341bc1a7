// Training examples from JSON Lines files: one {"prompt": …, "completion": …} a line.

import ErrorText
import Foundation
import LanguageModel

/// Why a file of training examples was refused. `line` counts from 1; 0 is the file as a whole.
public struct TrainingDataError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let file: String
  /// From 1; 0 where the problem is the file's as a whole.
  public let line: Int
  /// Goes on after the file and the line, with a colon before it.
  public let problem: String

  public var description: String {
    line == 0 ? "\(file): \(problem)" : "\(file), line \(line): \(problem)"
  }
  public var errorDescription: String? { description }
}

/// Reads training examples.
public enum TrainingData {
  /// The examples of a JSON Lines file: the tokens of the prompt, and those of the completion with
  /// the end-of-text token after them. Too long an example loses the oldest tokens of its prompt,
  /// never any of its completion. Empty lines are passed over.
  /// - Parameters:
  ///   - cutoff: the longest example in tokens.
  ///   - beginning: the token that a cut prompt keeps in front.
  ///   - example: the tokens of a prompt and its completion, as ``PromptTokens/example(_:_:)``.
  /// - Throws: `TrainingDataError` naming file and line.
  public static func read(
    path: String, cutoff: Int, keeping beginning: Int32?,
    example tokens: (_ prompt: String, _ completion: String) -> TrainingExample
  ) throws -> [TrainingExample] {
    var data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw TrainingDataError(
        file: path, line: 0, problem: "cannot be read: \(ErrorText.reason(error))")
    }
    if data.starts(with: [0xFF, 0xFE]) || data.starts(with: [0xFE, 0xFF]) {
      throw TrainingDataError(file: path, line: 0, problem: "is UTF-16; UTF-8 is expected")
    }
    // A byte order mark, as editors on Windows write it.
    if data.starts(with: [0xEF, 0xBB, 0xBF]) { data = data.dropFirst(3) }
    var examples: [TrainingExample] = []
    for (index, line) in data.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
    {
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      func refuse(_ problem: String) -> TrainingDataError {
        TrainingDataError(file: path, line: index + 1, problem: problem)
      }
      guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any] else {
        throw refuse("is not a JSON object")
      }
      guard let prompt = object["prompt"] as? String else { throw refuse("has no text 'prompt'") }
      guard let completion = object["completion"] as? String else {
        throw refuse("has no text 'completion'")
      }
      let whole = tokens(prompt, completion)
      guard let example = whole.truncated(to: cutoff, keeping: beginning) else {
        throw refuse(
          "its completion has \(whole.completion.count) tokens, more than the cutoff of \(cutoff)")
      }
      guard example.lossCount > 0 else { throw refuse("has no token to learn") }
      examples.append(example)
    }
    guard !examples.isEmpty else {
      throw TrainingDataError(file: path, line: 0, problem: "has no examples")
    }
    return examples
  }
}
