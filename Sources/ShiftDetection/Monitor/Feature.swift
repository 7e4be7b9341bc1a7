// What the detectors of a monitor watch, and words for it.

import Foundation

enum Feature: UInt8, Sendable, Hashable, CaseIterable {
  case loss = 0
  case labels
  case rating
  case fit
  case words
  case wordLength
  case capitals
  case signs
  case inputWords
  case novelty

  /// In the order of ``TextFeatures/style(_:)``.
  static let style: [Feature] = [.words, .wordLength, .capitals, .signs]

  var kind: SignalKind {
    switch self {
    case .loss: .loss
    case .labels, .rating, .fit, .words, .wordLength, .capitals, .signs: .output
    case .inputWords, .novelty: .input
    }
  }

  var direction: NumberDetector.Direction {
    switch self {
    case .loss, .fit: .up
    default: .either
    }
  }

  var comesFromInputs: Bool { self == .fit || self == .novelty }

  var name: String {
    switch self {
    case .wordLength: "word length"
    case .inputWords: "words"
    default: "\(self)"
    }
  }

  /// The beginning of a sentence.
  var phrase: String {
    switch self {
    case .loss: "loss of the adapter on new events"
    case .labels: "labels chosen"
    case .rating: "ratings given"
    case .fit: "how far outputs go against those that came with the same words"
    case .words: "words written"
    case .wordLength: "length of the words written"
    case .capitals: "capitals among the letters written"
    case .signs: "signs and digits per word written"
    case .inputWords: "words of the inputs"
    case .novelty: "how new the words of the inputs are (nats)"
    }
  }

  /// A typical value of a number, in words.
  func words(_ value: Double) -> String {
    switch self {
    case .capitals: "about \(Int((value * 100).rounded())) %"
    default: "about \(Self.decimals(value))"
    }
  }

  /// Two decimals; printf's formatting costs more than all tests together.
  private static func decimals(_ value: Double) -> String {
    guard abs(value) < 1e12 else { return "\(value)" }
    let hundredths = Int((abs(value) * 100).rounded())
    let part = hundredths % 100
    return
      "\(value < 0 && hundredths > 0 ? "-" : "")\(hundredths / 100).\(part < 10 ? "0" : "")\(part)"
  }
}

extension SignalKind {
  /// How many independent tests alarm as often as a signal's tests do.
  func effectiveTests(of count: Int) -> Double { Double(max(1, count)) }
}
