// From events and model answers to outputs: validation, completions and parsing.
//
// The convention, for training and serving alike: a prompt ends without white space and a completion
// begins with one space. Byte-pair tokenizers of the GPT-2 family keep the space with the word after
// it, so the tokens of prompt and completion are those of the two together.

import Foundation
import JSON

/// An event's or request's content after validation.
public struct ValidatedContent: Sendable, Hashable {
  /// The input, unknown fields kept.
  public let input: [String: JSONValue]
  /// The output in the task's own spelling; nil where the event has none.
  public let output: String?

  public init(input: [String: JSONValue], output: String?) {
    self.input = input
    self.output = output
  }
}

extension TaskDefinition {
  /// Checks an input, and an output where there is one, and returns them in the task's own form
  /// (a label in the catalogue's spelling, a rating in its shortest form, text trimmed).
  /// Throws `TaskContentError`, whose sentence names field, expectation and finding.
  @discardableResult
  public func validate(input: JSONValue, output: JSONValue?) throws -> ValidatedContent {
    guard case .object(let members) = input else {
      throw error("input", expected: "an object of the task's fields", found: input.kindName)
    }
    for field in fields { try check(field, in: members) }
    let bytes = input.canonical.utf8.count
    guard bytes <= maximumInputBytes else {
      throw error("input", expected: "at most \(maximumInputBytes) bytes", found: "\(bytes)")
    }
    guard let output, !output.isNull else { return ValidatedContent(input: members, output: nil) }
    return ValidatedContent(input: members, output: try canonicalOutput(output))
  }

  private func check(_ field: InputField, in members: [String: JSONValue]) throws {
    let name = "input.\(field.name)"
    guard let value = members[field.name], !value.isNull else {
      if field.required { throw error(name, expected: "a value", found: "nothing") }
      return
    }
    guard let text = value.plainText else {
      throw error(
        name, expected: "a string, a number, a boolean or an array of these", found: value.kindName)
    }
    if field.required, text.allSatisfy(\.isWhitespace) {
      throw error(name, expected: "a value", found: "an empty text")
    }
    guard text.utf8.count <= field.maximumBytes else {
      throw error(
        name, expected: "at most \(field.maximumBytes) bytes", found: "\(text.utf8.count)")
    }
  }

  private func canonicalOutput(_ output: JSONValue) throws -> String {
    switch output {
    case .string, .number, .integer: break
    default: throw error("output", expected: "a string or a number", found: output.kindName)
    }
    let text = output.plainText ?? ""
    guard text.utf8.count <= maximumOutputBytes else {
      throw error(
        "output", expected: "at most \(maximumOutputBytes) bytes", found: "\(text.utf8.count)")
    }
    switch kind {
    case .label:
      let folded = TextForm.folded(text)
      guard let label = labels.first(where: { TextForm.folded($0) == folded }) else {
        throw error(
          "output", expected: "one of the labels \(Self.list(labels))", found: Self.quoted(text))
      }
      return label
    case .rating:
      let number = Double(text.trimmingCharacters(in: .whitespacesAndNewlines))
      guard let rating, let value = number.flatMap(rating.value(exactly:)) else {
        throw error("output", expected: scaleText, found: Self.quoted(text))
      }
      return JSONValue.text(of: value)
    case .text:
      let form = outputForm(text)
      guard !form.isEmpty else { throw error("output", expected: "a text", found: "an empty text") }
      return form
    }
  }

  private var scaleText: String {
    guard let rating else { return "a rating" }
    let step = rating.step == 1 ? "" : " in steps of \(JSONValue.text(of: rating.step))"
    let low = JSONValue.text(of: rating.minimum)
    return "a rating from \(low) to \(JSONValue.text(of: rating.maximum))\(step)"
  }

  private func error(_ field: String, expected: String, found: String) -> TaskContentError {
    TaskContentError(task: name, field: field, expected: expected, found: found)
  }

  private static func quoted(_ text: String) -> String {
    text.count > 60 ? "\"\(text.prefix(60))…\"" : "\"\(text)\""
  }

  private static func list(_ labels: [String]) -> String {
    labels.count <= 8
      ? labels.joined(separator: ", ")
      : labels.prefix(8).joined(separator: ", ") + ", … (\(labels.count) in all)"
  }

  private func outputForm(_ text: String) -> String {
    multiline
      ? text.trimmingCharacters(in: .whitespacesAndNewlines) : TextForm.collapsed(text)
  }

  /// The completion that stands for an output: one space, then the output. The end-of-text token is
  /// appended by whoever tokenises it.
  public func completion(for output: String) -> String { " " + outputForm(output) }

  /// The answers that exist, in the order of labels or from the lowest rating; nil for text.
  public var answers: [String]? {
    switch kind {
    case .label: labels
    case .rating: rating?.values.map(JSONValue.text(of:))
    case .text: nil
    }
  }

  /// The completions of all answers, for scoring; nil for text.
  public var candidates: [String]? { answers?.map(completion(for:)) }

  /// The answer to give when every candidate has been scored.
  ///
  /// - Parameter logProbabilities: one per element of `answers`, total log-probability of the
  ///   candidate with its end-of-text token.
  /// - Returns: the likeliest label; for ratings the median of the distribution over the scale, which
  ///   minimises the expected absolute error; with the probability of that answer among all answers.
  ///   Nil for text, for a wrong count, or where no score is finite.
  public func answer(
    logProbabilities: [Double]
  ) -> (output: String, probability: Double)? {
    guard let answers, answers.count == logProbabilities.count,
      let best = logProbabilities.filter(\.isFinite).max()
    else { return nil }
    let weights = logProbabilities.map { $0.isFinite ? exp($0 - best) : 0 }
    let total = weights.reduce(0, +)
    var index = 0
    if kind == .rating {
      var below = weights[0]
      while below < total / 2, index + 1 < answers.count {
        index += 1
        below += weights[index]
      }
    } else {
      for (other, weight) in weights.enumerated() where weight > weights[index] { index = other }
    }
    return (answers[index], weights[index] / total)
  }

  /// The output in a generated answer, or nil where there is none.
  ///
  /// A label task takes the label that the answer is, else the longest one that it begins with, else
  /// the first one in it; a rating task the first number on the scale; a text task the first line
  /// that is not empty, or everything where the task is multiline.
  public func parse(_ answer: String) -> String? {
    // No text of a user holds U+0000, and PostgreSQL stores none that does.
    let answer = answer.replacing("\0", with: "")
    switch kind {
    case .label: return parseLabel(answer)
    case .rating:
      guard let rating else { return nil }
      for word in answer.split(whereSeparator: { !($0.isNumber || $0 == "." || $0 == "-") }) {
        let number = word.last == "." ? word.dropLast() : word
        if let value = Double(number) {
          // A first number off the scale is an answer that cannot be taken, not one to skip.
          return rating.value(exactly: value).map(JSONValue.text(of:))
        }
      }
      return nil
    case .text:
      if multiline {
        let text = outputForm(answer)
        return text.isEmpty ? nil : text
      }
      for line in answer.split(whereSeparator: \.isNewline) {
        let text = TextForm.collapsed(String(line))
        if !text.isEmpty { return text }
      }
      return nil
    }
  }

  private func parseLabel(_ answer: String) -> String? {
    let quotes = CharacterSet(charactersIn: "\"'“”‘’.,:;!*[]() ")
    let folded = TextForm.folded(answer)
    let plain = folded.trimmingCharacters(in: quotes)
    let known = labels.map { (label: $0, folded: TextForm.folded($0)) }
    if let exact = known.first(where: { $0.folded == plain || $0.folded == folded }) {
      return exact.label
    }
    func isWhole(_ range: Range<String.Index>) -> Bool {
      let before = range.lowerBound == folded.startIndex ? nil : folded[..<range.lowerBound].last
      let after = folded[range.upperBound...].first
      return ![before, after].contains { $0.map { $0.isLetter || $0.isNumber } ?? false }
    }
    var best: (label: String, start: String.Index, length: Int)?
    for (label, text) in known {
      guard let range = folded.range(of: text), isWhole(range) else { continue }
      let found = (label: label, start: range.lowerBound, length: text.count)
      if let earlier = best,
        (earlier.start, -earlier.length) <= (found.start, -found.length)
      {
        continue
      }
      best = found
    }
    return best?.label
  }
}

/// Why an event or request cannot be taken for its task.
public struct TaskContentError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let task: String
  /// The field, such as `input.description` or `output`.
  public let field: String
  /// What may stand there, in words, such as `one of the labels …`.
  public let expected: String
  /// What stood there, in words.
  public let found: String

  public var description: String {
    "task \"\(task)\", field \"\(field)\": expected \(expected), found \(found)"
  }
  public var errorDescription: String? { description }
}
