// Watching one user's stream for a task: every observation in, three findings out.

import Foundation

/// Sequential change detection for short streams of one user and one task.
///
/// Every observation is followed by a permutation test of each signal over all observations since the
/// last change (up to a window). The stated false-alarm rate is that of all signals together: its
/// budget is split evenly between the signals, and within a signal between its tests (Bonferroni).
///
/// A pure value: the same observations give the same findings on every machine, and it can be stored
/// between observations as JSON.
public struct ShiftMonitor: Codable, Sendable, Hashable {
  public struct Configuration: Codable, Sendable, Hashable {
    /// Mean number of observations between false alarms of a stream that does not change.
    public var arl0: Double
    /// Observations before the first test.
    public var warmUp: Int
    /// The shortest stretch, before or after, that a change is sought with.
    public var minimumSegment: Int
    /// Observations that are remembered and compared at most.
    public var window: Int
    public var seed: UInt64

    /// Values outside of what the tests can work with are brought to the nearest that they can.
    public init(
      arl0: Double = 1_000, warmUp: Int = 8, minimumSegment: Int = 4, window: Int = 200,
      seed: UInt64 = 1
    ) {
      self.arl0 = min(max(arl0.isFinite ? arl0 : 1_000, 20), 100_000)
      self.minimumSegment = min(max(minimumSegment, 2), 50)
      self.warmUp = max(warmUp, 2 * self.minimumSegment)
      self.window = min(max(window, 2 * self.warmUp), 400)
      self.seed = seed
    }
  }

  /// Why a baseline is dropped.
  public enum ResetReason: String, Codable, Sendable {
    /// Another adapter version is active: losses under the old one say nothing about it. What the user
    /// does is unchanged, so outputs and inputs stay.
    case newAdapter
    /// Begin again.
    case everything
  }

  public let configuration: Configuration
  /// Observations since the monitor began.
  public private(set) var observations = 0
  var rows: [Row] = []

  /// What is remembered of one observation.
  struct Row: Codable, Sendable, Hashable {
    let index: Int
    var loss: Double?
    let output: ObservedValue?
    /// Words of the input, in count.
    let inputWords: Double
    /// See `TextFeatures.contentWords`.
    let contentWords: [UInt32]
  }

  /// An output as the tests see it; of a text only numbers are kept.
  enum ObservedValue: Codable, Sendable, Hashable {
    case label(String)
    case rating(Double)
    case style([Double])
  }

  public init(configuration: Configuration = Configuration()) {
    self.configuration = configuration
  }

  /// Takes one observation and returns the finding of every signal, alarming or not, in the order of
  /// `SignalKind.allCases`. After an alarm the observations before the change are forgotten, so that
  /// one change is reported once.
  public mutating func observe(_ observation: Observation) -> [Signal] {
    rows.append(row(observation))
    observations += 1
    if rows.count > configuration.window {
      rows.removeFirst(rows.count - configuration.window)
    }
    let signals = SignalKind.allCases.map(evaluate)
    let alarms = signals.filter(\.isAlarm)
    if let surest = alarms.min(by: { ($0.pValue ?? 1) < ($1.pValue ?? 1) }),
      let change = surest.changeIndex
    {
      rows.removeAll { $0.index < change }
    }
    return signals
  }

  /// Drops what a reason makes meaningless.
  public mutating func reset(after reason: ResetReason) {
    switch reason {
    case .newAdapter:
      for index in rows.indices { rows[index].loss = nil }
    case .everything:
      rows = []
    }
  }

  // MARK: Remembering

  private func row(_ observation: Observation) -> Row {
    let output: ObservedValue? =
      switch observation.output {
      case .label(let label): .label(label)
      case .rating(let rating): rating.isFinite ? .rating(rating) : nil
      case .text(let text): .style(TextFeatures.style(text))
      case nil: nil
      }
    return Row(
      index: observations, loss: observation.loss.flatMap { $0.isFinite ? $0 : nil },
      output: output,
      inputWords: Double(observation.input.split(whereSeparator: \.isWhitespace).count),
      contentWords: TextFeatures.contentWords(observation.input))
  }

  // MARK: Testing

  private func evaluate(_ kind: SignalKind) -> Signal {
    let tests = tests(of: kind)
    // Fixed budgets: a signal that has no data yet does not lend its part to the others.
    let arl0 = configuration.arl0 * Double(SignalKind.allCases.count)
    let threshold = Calibration.threshold(arl0: arl0 * Double(max(1, tests.count)))
    var best: (test: Test, result: PermutationTest.Result)?
    for (number, test) in tests.enumerated() where test.rows.count >= configuration.warmUp {
      let result = test.run(
        PermutationTest(orders: Int((8 / threshold).rounded(.up))),
        minimumSegment: configuration.minimumSegment, seed: seed(kind, number))
      if best.map({ result.pValue < $0.result.pValue }) ?? true { best = (test, result) }
    }
    guard let (test, result) = best else {
      return Signal(
        kind: kind, feature: tests.first?.names.first ?? kind.rawValue, statistic: nil,
        pValue: nil, threshold: threshold, arl0: arl0,
        observations: tests.map(\.rows.count).max() ?? 0, changeIndex: nil, before: "", after: "",
        isAlarm: false)
    }
    return Signal(
      kind: kind, feature: test.names[result.feature], statistic: result.statistic,
      pValue: result.pValue, threshold: threshold, arl0: arl0, observations: test.rows.count,
      changeIndex: test.rows[result.split],
      before: test.summary(0..<result.split, feature: result.feature),
      after: test.summary(result.split..<test.rows.count, feature: result.feature),
      isAlarm: result.pValue <= threshold)
  }

  private func seed(_ kind: SignalKind, _ number: Int) -> UInt64 {
    let place = SignalKind.allCases.firstIndex(of: kind) ?? 0
    var generator = SplitMix64(
      seed: configuration.seed &+ UInt64(observations) &* 64 &+ UInt64(place * 8 + number))
    return generator.next()
  }

  private func tests(of kind: SignalKind) -> [Test] {
    switch kind {
    case .loss:
      let present = rows.filter { $0.loss != nil }
      return [Test(rows: present, numeric: [("loss", .up, present.map(\.loss))])]
    case .input:
      let subjects = ContentComponents(rows.map(\.contentWords)).columns
      return [
        Test(
          rows: rows,
          numeric: [("words", .either, rows.map(\.inputWords))]
            + subjects.map { ("subject", .either, $0) })
      ]
    case .output:
      return outputTests()
    }
  }

  private func outputTests() -> [Test] {
    var labels: [(Row, String)] = []
    var ratings: [(Row, Double)] = []
    var styles: [(Row, [Double])] = []
    for row in rows {
      switch row.output {
      case .label(let label): labels.append((row, label))
      case .rating(let rating): ratings.append((row, rating))
      case .style(let style): styles.append((row, style))
      case nil: break
      }
    }
    var tests: [Test] = []
    if !labels.isEmpty {
      tests.append(Test(rows: labels.map(\.0), labels: labels.map(\.1)))
      let common = Dictionary(grouping: labels, by: \.1)
        .sorted { ($1.value.count, $0.key) < ($0.value.count, $1.key) }.prefix(3).map(\.key)
      tests.append(
        Test(
          rows: labels.map(\.0),
          numeric: common.flatMap { label in
            Self.bySubject(labels.map { ($0.0, $0.1 == label ? 1 : 0) }, "\(label) by subject")
          }))
    }
    if !ratings.isEmpty {
      tests.append(
        Test(
          rows: ratings.map(\.0),
          numeric: [("rating", .either, ratings.map(\.1))]
            + Self.bySubject(ratings, "rating by subject")))
    }
    if !styles.isEmpty {
      let names = TextFeatures.styleNames
      tests.append(
        Test(
          rows: styles.map(\.0),
          numeric: names.indices.map { column in
            (names[column], .either, styles.map { $0.1[column] })
          }))
    }
    return tests
  }

  /// How outputs go with subjects: each output's distance from the mean, times each subject component.
  /// It shows a change that the outputs alone do not: the same ratings, given to other films.
  private static func bySubject(_ values: [(row: Row, value: Double)], _ name: String)
    -> [Test.Feature]
  {
    let mean = values.reduce(0) { $0 + $1.value } / Double(max(1, values.count))
    return ContentComponents(values.map(\.row.contentWords)).columns.map { column in
      (name, .either, zip(values, column).map { ($0.0.value - mean) * $0.1 })
    }
  }
}
