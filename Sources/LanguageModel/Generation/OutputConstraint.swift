// Texts that may only be certain ones: a label of a list, a number in a range.

import Foundation

/// What a generated text has to be.
public enum OutputConstraint: Sendable, Equatable {
  /// One of these texts, as the tokenizer encodes each of them by itself. At most 65,536.
  case choice([String])
  /// A decimal number in the range, with as many digits after the point at most, after a blank or
  /// not.
  case number(ClosedRange<Double>, decimals: Int = 0)
}

/// Where a text is on its way to what its constraint allows.
struct ConstraintState: Sendable {
  private enum Kind: Sendable {
    /// The choices that begin with the tokens so far, in tokens, without those.
    case choice([ArraySlice<Int32>])
    case number(NumberConstraint, text: String)
  }

  private var kind: Kind
  private let stopTokens: [Int32]
  /// The tokens that may come next; never empty until the text is complete.
  private(set) var allowed: [Int32] = []

  /// Throws ``InferenceError/invalidConstraint(_:)``.
  init(
    _ constraint: OutputConstraint, tokenizer: Tokenizer, stopTokens: Set<Int32>
  ) throws(InferenceError) {
    self.stopTokens = stopTokens.sorted()
    switch constraint {
    case .choice(let texts):
      guard (1...65_536).contains(texts.count) else {
        throw .invalidConstraint("A choice has to be among 1 to 65,536 texts, not \(texts.count).")
      }
      let begin = tokenizer.addsBOS ? 1 : 0
      let encoded = texts.map { tokenizer.encode($0).dropFirst(begin) }
      guard encoded.allSatisfy({ !$0.isEmpty }) else {
        throw .invalidConstraint("A choice has to be among texts of at least one token.")
      }
      kind = .choice(encoded)
    case .number(let range, let decimals):
      kind = .number(
        try NumberConstraint(range, decimals: decimals, tokenizer: tokenizer), text: "")
    }
    update()
    guard !allowed.isEmpty else {
      throw .invalidConstraint("The tokenizer has no tokens for what the constraint allows.")
    }
  }

  /// Whether nothing can follow any more. A text that is whole but could go on, as "10" in a range up
  /// to 100, is ended by a stop token.
  var isComplete: Bool { allowed.isEmpty }

  mutating func advance(_ token: Int32) {
    switch kind {
    case .choice(let rest):
      kind = .choice(rest.filter { $0.first == token }.map { $0.dropFirst() })
    case .number(let constraint, let text):
      kind = .number(constraint, text: text + constraint.text(of: token))
    }
    update()
  }

  private mutating func update() {
    switch kind {
    case .choice(let rest):
      let next = Set(rest.compactMap(\.first))
      let isWhole = rest.contains(where: \.isEmpty)
      allowed = next.isEmpty ? [] : next.sorted() + (isWhole ? stopTokens : [])
    case .number(let constraint, let text):
      let next = constraint.tokens(after: text)
      allowed = next.isEmpty ? [] : next + (constraint.isWhole(text) ? stopTokens : [])
    }
  }
}

/// Numbers in a range, written without exponent and without needless zeros in front.
private struct NumberConstraint: Sendable {
  private let range: ClosedRange<Double>
  private let decimals: Int
  /// The tokens made of digits, a point, a sign, or a blank before these.
  private let candidates: [(token: Int32, text: String)]
  private let texts: [Int32: String]

  init(
    _ range: ClosedRange<Double>, decimals: Int, tokenizer: Tokenizer
  ) throws(InferenceError) {
    guard (0...9).contains(decimals), range.lowerBound.magnitude < 1e12,
      range.upperBound.magnitude < 1e12
    else {
      throw .invalidConstraint(
        "A number needs 0 to 9 decimals and limits below 10^12, not \(decimals) and \(range).")
    }
    let unit = pow(10, Double(decimals))
    guard (range.lowerBound * unit).rounded(.up) <= (range.upperBound * unit).rounded(.down) else {
      throw .invalidConstraint("No number with \(decimals) decimals lies in \(range).")
    }
    self.range = range
    self.decimals = decimals
    let marks = Set("0123456789.-".utf8)
    var candidates: [(Int32, String)] = []
    for token in 0..<Int32(tokenizer.vocabulary) where !tokenizer.isSpecial(token) {
      let bytes = tokenizer.bytes(of: token)
      let digits = bytes.first == UInt8(ascii: " ") ? bytes.dropFirst() : bytes[...]
      guard !bytes.isEmpty, bytes.count <= 16, digits.allSatisfy(marks.contains) else { continue }
      candidates.append((token, String(decoding: bytes, as: UTF8.self)))
    }
    self.candidates = candidates
    texts = Dictionary(uniqueKeysWithValues: candidates)
  }

  func text(of token: Int32) -> String { texts[token] ?? "" }

  func tokens(after text: String) -> [Int32] {
    candidates.filter { canBecomeNumber(text + $0.text) }.map(\.token)
  }

  /// Whether the text is a number in the range as it stands.
  func isWhole(_ text: String) -> Bool {
    guard let parts = parts(of: text), !parts.whole.isEmpty, parts.fraction?.isEmpty != true
    else { return false }
    return value(of: parts).map(range.contains) ?? false
  }

  private struct Parts {
    let isNegative: Bool
    let whole: Substring
    /// nil without a point.
    let fraction: Substring?
  }

  /// nil for what is no beginning of a number.
  private func parts(of text: String) -> Parts? {
    var rest = text.hasPrefix(" ") ? text.dropFirst() : text[...]
    let isNegative = rest.hasPrefix("-")
    if isNegative { rest = rest.dropFirst() }
    let pieces = rest.split(separator: ".", omittingEmptySubsequences: false)
    guard pieces.count <= 2,
      pieces.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } })
    else { return nil }
    let fraction = pieces.count == 2 ? pieces[1] : nil
    guard pieces[0].count <= 12, pieces[0].count < 2 || !pieces[0].hasPrefix("0"),
      fraction == nil || !pieces[0].isEmpty, (fraction?.count ?? -1) <= decimals,
      fraction == nil || decimals > 0
    else { return nil }
    return Parts(isNegative: isNegative, whole: pieces[0], fraction: fraction)
  }

  private func value(of parts: Parts) -> Double? {
    guard let size = Double(parts.whole + "." + (parts.fraction ?? "") + "0") else { return nil }
    return parts.isNegative ? -size : size
  }

  /// Whether digits after the text can make it a number in the range.
  private func canBecomeNumber(_ text: String) -> Bool {
    guard let parts = parts(of: text) else { return false }
    if parts.whole.isEmpty { return !parts.isNegative || range.lowerBound < 0 }
    guard let value = value(of: parts) else { return false }
    // The sizes that further digits can reach: more of the fraction, or first more whole digits.
    let digits = parts.fraction?.count ?? 0
    let step = pow(10, -Double(decimals))
    let grain = parts.fraction == nil ? 1 : pow(10, -Double(digits))
    let most = parts.whole == "0" || parts.fraction != nil ? 0 : 12 - parts.whole.count
    for more in 0...most {
      let scale = pow(10, Double(more))
      let low = value.magnitude * scale
      let high = (value.magnitude + grain) * scale - step
      let reach = parts.isNegative ? -high...(-low) : low...high
      // Half a step for what decimal fractions lose in binary.
      if reach.lowerBound - step / 2 <= range.upperBound,
        reach.upperBound + step / 2 >= range.lowerBound
      {
        return true
      }
    }
    return false
  }
}
