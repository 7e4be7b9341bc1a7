// Watching one user's stream for a task: every observation in, findings out.

import Foundation

/// Sequential change detection for short streams of one user and one task.
///
/// Every observation updates a detector for each number that is watched; an alarm is a detector whose
/// statistic a quiet user shows less often than the test may. The stated false-alarm rate is that of all
/// tests together: at each observation it is split evenly between the signals that have data, and within
/// a signal between its tests.
///
/// A pure value: the same observations give the same findings on every machine, and its state of less
/// than a kilobyte comes back bit for bit.
public struct ShiftMonitor: CompactState {
  /// What is watched, and how often a quiet stream may give an alarm.
  public struct Configuration: Sendable, Hashable {
    /// Mean number of observations between false alarms of a stream that does not change.
    public var arl0: Double
    /// What is watched.
    public var signals: Set<SignalKind>
    /// Orders equal numbers at random.
    public var seed: UInt32

    /// Values outside of what the tests can work with are brought to the nearest that they can.
    public init(
      arl0: Double = 1_000, signals: Set<SignalKind> = Set(SignalKind.allCases), seed: UInt32 = 1
    ) {
      self.arl0 = Self.range.clamp(arl0.isFinite ? arl0 : 1_000)
      self.signals = signals
      self.seed = seed
    }

    static let range: ClosedRange<Double> = 20...1e9
  }

  /// Why a baseline is dropped.
  public enum ResetReason: String, Codable, Sendable {
    /// Another adapter version is active: losses under the old one say nothing about it. What the user
    /// does is unchanged, so outputs and inputs stay.
    case newAdapter
    /// Begin again.
    case everything
  }

  /// May be changed between observations: the state does not depend on `arl0` and `signals`.
  public var configuration: Configuration
  /// Observations since the monitor began.
  public private(set) var observations = 0
  private var labels: Watched<LabelDetector>?
  /// By what they watch.
  private var numbers: [Feature: Watched<NumberDetector>] = [:]
  private var inputs = ReferenceInputs()

  /// A detector, and where in the stream its first value was.
  struct Watched<Detector: Sendable & Hashable>: Sendable, Hashable {
    var detector: Detector
    let since: Int
  }

  public init(configuration: Configuration = Configuration()) {
    self.configuration = configuration
  }

  /// Takes one observation and returns the finding of every signal that is on, alarming or not, in the
  /// order of `SignalKind.allCases`. After an alarm everything is learned anew, so that one change is
  /// reported once.
  public mutating func observe(_ observation: Observation) -> [Signal] {
    let tests = take(observation)
    observations += 1
    let kinds = SignalKind.allCases.filter(configuration.signals.contains)
    let active = kinds.filter { kind in
      tests.contains { $0.feature.kind == kind && $0.evidence != nil }
    }.count
    let signals = kinds.map { kind in
      signal(kind, tests.filter { $0.feature.kind == kind }, active: active)
    }
    if signals.contains(where: \.isAlarm) { reset(after: .everything) }
    return signals
  }

  /// Drops what a reason makes meaningless.
  public mutating func reset(after reason: ResetReason) {
    switch reason {
    case .newAdapter:
      numbers[.loss] = nil
    case .everything:
      labels = nil
      numbers = [:]
      inputs = ReferenceInputs()
    }
  }

  // MARK: Values in

  /// What a detector says; evidence is nil while it has too few values.
  struct TestResult {
    let feature: Feature
    let evidence: Evidence?
  }

  private mutating func take(_ observation: Observation) -> [TestResult] {
    var results: [TestResult] = []
    results.reserveCapacity(8)
    let on = configuration.signals
    if on.contains(.loss), let loss = observation.loss { update(.loss, loss, &results) }
    var output: ReferenceInputs.Output?
    switch observation.output {
    case .label(let label):
      var watched = labels ?? Watched(detector: LabelDetector(), since: observations)
      labels = nil
      let cell = watched.detector.cell(of: label)
      output = .label(UInt8(cell))
      if on.contains(.output) {
        results.append(
          TestResult(feature: .labels, evidence: watched.detector.update(cell: cell)))
      }
      labels = watched
    case .rating(let rating) where rating.isFinite:
      output = .rating(CompactNumber(rating))
      if on.contains(.output) { update(.rating, rating, &results) }
    case .text(let text) where on.contains(.output):
      for (feature, value) in zip(Feature.style, TextFeatures.style(text)) {
        update(feature, value, &results)
      }
    case .rating, .text, nil:
      break
    }
    if on.contains(.input) {
      update(.inputWords, Double(TextFeatures.wordCount(observation.input)), &results)
    }
    let words = TextFeatures.contentWords(observation.input)
    if words != 0 { compare(.init(words: words, output: output), &results) }
    return results
  }

  private mutating func update(
    _ feature: Feature, _ value: Double, _ results: inout [TestResult]
  ) {
    guard value.isFinite else { return }
    var watched = numbers[feature] ?? new(feature)
    numbers[feature] = nil
    let evidence = watched.detector.update(value)
    numbers[feature] = watched
    results.append(TestResult(feature: feature, evidence: evidence))
  }

  private func new(_ feature: Feature) -> Watched<NumberDetector> {
    Watched(
      detector: NumberDetector(
        direction: feature.direction,
        seed: configuration.seed &* 0x9E37_79B9 &+ UInt32(feature.rawValue)),
      since: observations)
  }

  /// Novelty and fit of the newest event.
  private mutating func compare(
    _ event: ReferenceInputs.Event, _ results: inout [TestResult]
  ) {
    let on = configuration.signals
    if inputs.isFull {
      let (novelty, fit) = inputs.measure(event, insteadOf: observations)
      if on.contains(.output), let fit { update(.fit, fit, &results) }
      if on.contains(.input) { update(.novelty, novelty, &results) }
      return
    }
    inputs.append(event)
    remeasure()
    if on.contains(.output), event.output != nil, let fit = numbers[.fit] {
      results.append(TestResult(feature: .fit, evidence: fit.detector.evidence))
    }
    if on.contains(.input), let novelty = numbers[.novelty] {
      results.append(TestResult(feature: .novelty, evidence: novelty.detector.evidence))
    }
  }

  /// Puts novelty and fit of all events among one another into their detectors.
  private mutating func remeasure() {
    let (novelty, fit) = inputs.measures()
    for (feature, values) in [(Feature.novelty, novelty), (.fit, fit)] where !values.isEmpty {
      var watched = numbers[feature] ?? new(feature)
      watched.detector.replaceReference(values)
      numbers[feature] = watched
    }
  }

  // MARK: Findings out

  private func signal(_ kind: SignalKind, _ tests: [TestResult], active: Int) -> Signal {
    // Tests of a signal that share their data alarm together now and then.
    let ready = tests.filter { $0.evidence != nil }
    let parts = Double(max(1, active)) * kind.effectiveTests(of: ready.count)
    let arl0 = configuration.arl0 * parts
    let rarest = ready.max { ($0.evidence?.rarity ?? 0) < ($1.evidence?.rarity ?? 0) }
    guard let rarest, let evidence = rarest.evidence else {
      return Signal(
        kind: kind, feature: tests.first?.feature.name ?? kind.rawValue, statistic: nil,
        threshold: nil, rarity: nil, arl0: arl0,
        observations: tests.map { count(of: $0.feature) }.max() ?? 0, changeIndex: nil,
        before: "", after: "", isAlarm: false,
        explanation: "\(kind.rawValue): too few events with different values to compare")
    }
    let (before, after) = summary(of: rarest.feature, after: evidence.after)
    let threshold = evidence.threshold(arl0: arl0)
    let isAlarm = evidence.statistic >= threshold
    let change = changeIndex(rarest.feature, evidence)
    return Signal(
      kind: kind, feature: rarest.feature.name, statistic: evidence.statistic,
      threshold: threshold, rarity: evidence.rarity, arl0: arl0, observations: evidence.count,
      changeIndex: change, before: before, after: after, isAlarm: isAlarm,
      explanation: """
        \(rarest.feature.phrase): \(before) until event \(change), \(after) in the \
        \(observations - change) since; a steady user shows that once in \
        \(Self.rounded(evidence.rarity)) events, \(isAlarm ? "an alarm at" : "no alarm before") one \
        in \(Self.rounded(arl0))
        """)
  }

  private static func rounded(_ number: Double) -> String {
    guard number >= 100 else { return "\(Int(number.rounded()))" }
    guard number < 1e12 else { return "a million million" }
    let unit = pow(10, (log10(number) - 1).rounded(.down))
    let value = Int((number / unit).rounded() * unit)
    // Thousands apart.
    var digits = String(value)
    var place = digits.count - 3
    while place > 0 {
      digits.insert(",", at: digits.index(digits.startIndex, offsetBy: place))
      place -= 3
    }
    return digits
  }

  private func count(of feature: Feature) -> Int {
    feature == .labels ? labels?.detector.count ?? 0 : numbers[feature]?.detector.count ?? 0
  }

  /// Where values are missing now and then, the place is that of evenly spread ones.
  private func changeIndex(_ feature: Feature, _ evidence: Evidence) -> Int {
    let since = feature == .labels ? labels?.since : numbers[feature]?.since
    let seen = observations - (since ?? 0)
    // A full histogram has forgotten its beginning.
    let arrived = max(evidence.count, min(seen, SplitHistogram.largest))
    let events = seen > SplitHistogram.largest ? evidence.count : max(seen, arrived)
    let refined =
      feature == .labels
      ? labels?.detector.refined(after: evidence.after)
      : numbers[feature]?.detector.refined(after: evidence.after)
    let place = refined ?? evidence.after
    let after = Double(place) * Double(events) / Double(evidence.count)
    return max(0, observations - Int(after.rounded()))
  }

  private func summary(of feature: Feature, after m: Int) -> (before: String, after: String) {
    if feature == .labels { return labels?.detector.summary(after: m) ?? ("", "") }
    guard let (before, after) = numbers[feature]?.detector.summary(after: m) else {
      return ("", "")
    }
    return (feature.words(before), feature.words(after))
  }

  // MARK: State

  public func write(to writer: inout StateWriter) {
    writer.byte(Self.version)
    writer.double(configuration.arl0)
    writer.byte(
      SignalKind.allCases.enumerated().reduce(0) {
        configuration.signals.contains($1.element) ? $0 | 1 << UInt8($1.offset) : $0
      })
    writer.fixed(configuration.seed)
    writer.unsigned(observations)
    inputs.write(to: &writer)
    writer.byte(labels == nil ? 0 : 1)
    if let labels {
      writer.unsigned(labels.since)
      labels.detector.write(to: &writer)
    }
    writer.unsigned(numbers.count)
    for (feature, watched) in numbers.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      writer.byte(feature.rawValue)
      writer.unsigned(watched.since)
      watched.detector.write(to: &writer, withReference: !feature.comesFromInputs)
    }
  }

  /// Of the layout; states of another one are not read.
  private static let version: UInt8 = 2

  public init(reading reader: inout StateReader) throws {
    let version = try reader.byte()
    guard version == Self.version else {
      throw StateError("layout \(version), this release reads \(Self.version)")
    }
    let arl0 = try reader.double()
    let on = try reader.byte()
    let kinds = SignalKind.allCases.enumerated().filter { on >> UInt8($0.offset) & 1 == 1 }
    configuration = Configuration(
      arl0: arl0, signals: Set(kinds.map(\.element)), seed: try reader.fixed(UInt32.self))
    observations = try reader.unsigned()
    inputs = try ReferenceInputs(reading: &reader)
    if try reader.byte() == 1 {
      labels = Watched(
        detector: LabelDetector(), since: try reader.unsigned(upTo: observations))
      labels?.detector = try LabelDetector(reading: &reader)
    }
    for _ in 0..<(try reader.unsigned(upTo: Feature.allCases.count)) {
      guard let feature = Feature(rawValue: try reader.byte()) else {
        throw StateError("an unknown feature")
      }
      let since = try reader.unsigned(upTo: observations)
      numbers[feature] = Watched(detector: try NumberDetector(reading: &reader), since: since)
    }
    // These are not written while they follow from the inputs.
    let (novelty, fit) = inputs.measures()
    numbers[.novelty]?.detector.replaceReference(novelty)
    numbers[.fit]?.detector.replaceReference(fit)
  }
}

extension ClosedRange<Double> {
  fileprivate func clamp(_ value: Double) -> Double {
    Swift.min(Swift.max(value, lowerBound), upperBound)
  }
}
