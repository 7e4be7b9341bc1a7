// A task: what goes in, what comes out, and the words that a prompt for it is made of.

import Foundation

/// What kind of answer a task has.
public enum OutputKind: String, Codable, Sendable, CaseIterable {
  /// One of a fixed list of labels.
  case label
  /// A number on a scale.
  case rating
  /// Free text.
  case text
}

/// How answers of a task are measured; raw values are the names used in task files and reports.
public enum Metric: String, Codable, Sendable, CaseIterable {
  case accuracy
  case macroF1 = "macro_f1"
  case meanAbsoluteError = "mae"
  case rootMeanSquaredError = "rmse"
  case rouge1 = "rouge_1"
  case rougeL = "rouge_l"

  /// Whether a higher value is the better one.
  public var higherIsBetter: Bool {
    switch self {
    case .meanAbsoluteError, .rootMeanSquaredError: false
    case .accuracy, .macroF1, .rouge1, .rougeL: true
    }
  }

  /// The metrics that make sense for a kind of output, the usual one first.
  public static func applicable(to kind: OutputKind) -> [Metric] {
    switch kind {
    case .label: [.accuracy, .macroF1]
    case .rating: [.meanAbsoluteError, .rootMeanSquaredError, .accuracy]
    case .text: [.rouge1, .rougeL]
    }
  }
}

/// One input field of a task.
public struct InputField: Codable, Sendable, Hashable {
  public var name: String
  /// An input without it, or with white space only, is refused.
  public var required: Bool
  /// The longest value taken, in UTF-8 bytes.
  public var maximumBytes: Int

  /// - Parameter maximumBytes: of the value in UTF-8.
  public init(name: String, required: Bool = true, maximumBytes: Int = 16_384) {
    self.name = name
    self.required = required
    self.maximumBytes = maximumBytes
  }
}

/// The scale of a rating task: minimum, minimum + step, … up to maximum.
public struct RatingScale: Codable, Sendable, Hashable {
  public var minimum: Double
  public var maximum: Double
  /// Between two neighbouring values; above 0.
  public var step: Double

  public init(minimum: Double, maximum: Double, step: Double = 1) {
    self.minimum = minimum
    self.maximum = maximum
    self.step = step
  }

  /// How many values the scale may have; a scale is scored value by value.
  static let maximumCount = 101

  var count: Int? {
    guard minimum.isFinite, maximum.isFinite, step.isFinite, step > 0, maximum > minimum else {
      return nil
    }
    let steps = ((maximum - minimum) / step).rounded()
    guard steps < Double(Self.maximumCount), abs(minimum + steps * step - maximum) < step * 1e-6
    else { return nil }
    return Int(steps) + 1
  }

  /// All values, lowest first; empty for an invalid scale.
  public var values: [Double] {
    (0..<(count ?? 0)).map { ((minimum + Double($0) * step) * 1e6).rounded() / 1e6 }
  }

  /// The value of the scale that the number is, or nil where it lies outside or between.
  public func value(exactly number: Double) -> Double? {
    values.first { abs($0 - number) <= step * 1e-6 }
  }
}

/// A named kind of work, as the task catalogue holds it.
public struct TaskDefinition: Codable, Sendable, Hashable {
  public var name: String
  /// What its answers are: labels, ratings or texts.
  public var kind: OutputKind
  public var description: String
  /// Of the input.
  public var fields: [InputField]
  /// Instruction and input. Ends without white space: the answer follows after one space.
  public var prompt: PromptTemplate
  /// One earlier event as it stands in a prompt, without its line end.
  public var historyItem: PromptTemplate
  /// What retrieval searches by, made of input fields only.
  public var query: PromptTemplate
  /// What a past item is found by: as `query`, but it may hold `{output}`, for histories whose items
  /// have no more than their output.
  public var historyQuery: PromptTemplate
  /// One earlier event as it is shown to a model that describes the user; as `historyItem` where a
  /// task says nothing.
  public var profile: PromptTemplate
  /// The answers of a label task; empty otherwise.
  public var labels: [String]
  /// The scale of a rating task; nil otherwise.
  public var rating: RatingScale?
  /// Whether a text answer may have more than one line.
  public var multiline: Bool
  /// The most tokens that an answer is given.
  public var maximumTokens: Int
  /// How its answers are measured; the first is the one that curves and shares are of.
  public var metrics: [Metric]
  /// The largest input taken, in bytes of its canonical JSON.
  public var maximumInputBytes: Int
  /// The longest output taken, in UTF-8 bytes.
  public var maximumOutputBytes: Int
  /// Where LaMP's files keep the fields; nil for a task that says nothing about them.
  public var lamp: LaMPFormat?
  /// Days that events are kept, by the time at which they happened; nil: for ever.
  public var retentionDays: Int?
  /// What the detection of shifts goes by; none: the task's users are never said to have shifted.
  public var shiftSignals: [ShiftSignal]

  /// Throws `TaskDefinitionError` where the parts do not fit together.
  public init(
    name: String, kind: OutputKind, description: String = "", fields: [InputField],
    prompt: PromptTemplate, historyItem: PromptTemplate, query: PromptTemplate? = nil,
    historyQuery: PromptTemplate? = nil, profile: PromptTemplate? = nil, labels: [String] = [],
    rating: RatingScale? = nil,
    multiline: Bool = false,
    maximumTokens: Int? = nil, metrics: [Metric]? = nil, maximumInputBytes: Int = 65_536,
    maximumOutputBytes: Int = 16_384, lamp: LaMPFormat? = nil, retentionDays: Int? = nil,
    shiftSignals: [ShiftSignal] = ShiftSignal.allCases
  ) throws {
    self.shiftSignals = shiftSignals
    self.name = name
    self.kind = kind
    self.description = description
    self.fields = fields
    self.prompt = prompt
    self.historyItem = historyItem
    let searched =
      try query ?? PromptTemplate(fields.map { "{\($0.name)}" }.joined(separator: " "))
    self.query = searched
    self.historyQuery = historyQuery ?? searched
    self.profile = profile ?? historyItem
    self.labels = labels
    self.rating = rating
    self.multiline = multiline
    self.maximumTokens = maximumTokens ?? (kind == .text ? 48 : 12)
    self.metrics = metrics ?? Array(Metric.applicable(to: kind).prefix(2))
    self.maximumInputBytes = maximumInputBytes
    self.maximumOutputBytes = maximumOutputBytes
    self.lamp = lamp
    self.retentionDays = retentionDays
    try check()
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    try self.init(
      name: container.decode(String.self, forKey: .name),
      kind: container.decode(OutputKind.self, forKey: .kind),
      description: container.decode(String.self, forKey: .description),
      fields: container.decode([InputField].self, forKey: .fields),
      prompt: container.decode(PromptTemplate.self, forKey: .prompt),
      historyItem: container.decode(PromptTemplate.self, forKey: .historyItem),
      query: container.decode(PromptTemplate.self, forKey: .query),
      historyQuery: container.decodeIfPresent(PromptTemplate.self, forKey: .historyQuery),
      profile: container.decodeIfPresent(PromptTemplate.self, forKey: .profile),
      labels: container.decode([String].self, forKey: .labels),
      rating: container.decodeIfPresent(RatingScale.self, forKey: .rating),
      multiline: container.decode(Bool.self, forKey: .multiline),
      maximumTokens: container.decode(Int.self, forKey: .maximumTokens),
      metrics: container.decode([Metric].self, forKey: .metrics),
      maximumInputBytes: container.decode(Int.self, forKey: .maximumInputBytes),
      maximumOutputBytes: container.decode(Int.self, forKey: .maximumOutputBytes),
      lamp: container.decodeIfPresent(LaMPFormat.self, forKey: .lamp),
      retentionDays: container.decodeIfPresent(Int.self, forKey: .retentionDays),
      shiftSignals: container.decodeIfPresent([ShiftSignal].self, forKey: .shiftSignals)
        ?? ShiftSignal.allCases)
  }

  private func check() throws {
    func fail(_ key: String, _ problem: String) -> TaskDefinitionError {
      TaskDefinitionError(task: name, key: key, problem: problem)
    }
    guard !name.isEmpty, name.utf8.count <= 128 else {
      throw fail("name", "a task's name has 1 to 128 bytes, this one has \(name.utf8.count)")
    }
    guard !fields.isEmpty else { throw fail("fields", "a task needs at least one input field") }
    let names = fields.map(\.name)
    for (index, field) in fields.enumerated() {
      if field.name == "output" {
        throw fail("fields", "a field cannot be called \"output\", which names the answer")
      }
      if names[..<index].contains(field.name) {
        throw fail("fields", "the field \"\(field.name)\" is listed twice")
      }
      guard field.maximumBytes > 0 else {
        throw fail("fields", "maximum_bytes of \"\(field.name)\" must be positive")
      }
    }
    let known = names.joined(separator: ", ")
    for (key, template, hasOutput) in [
      ("prompt", prompt, false), ("history_item", historyItem, true), ("query", query, false),
      ("history_query", historyQuery, true), ("profile", profile, true),
    ] {
      for placeholder in template.placeholders
      where !names.contains(placeholder) && !(hasOutput && placeholder == "output") {
        throw fail(
          key,
          placeholder == "output"
            ? "{output} has no place here: it is what the model is to write"
            : "unknown placeholder {\(placeholder)}; the fields are \(known)")
      }
    }
    if prompt.placeholders.isEmpty {
      throw fail("prompt", "no input field stands in it; put one in braces, such as {\(names[0])}")
    }
    if prompt.source.last?.isWhitespace == true {
      throw fail("prompt", "it ends in white space; the answer follows after a space by itself")
    }
    if !historyItem.placeholders.contains("output") {
      throw fail("history_item", "{output} does not stand in it")
    }
    try checkAnswers(fail)
    for (key, value) in [
      ("maximum_tokens", maximumTokens), ("maximum_input_bytes", maximumInputBytes),
      ("maximum_output_bytes", maximumOutputBytes), ("retention_days", retentionDays ?? 1),
    ] where value <= 0 {
      throw fail(key, "must be positive, found \(value)")
    }
    for metric in metrics where !Metric.applicable(to: kind).contains(metric) {
      let names = Metric.applicable(to: kind).map(\.rawValue).joined(separator: ", ")
      throw fail(
        "metrics", "\(metric.rawValue) does not measure a \(kind.rawValue) task; \(names) do")
    }
    try lamp?.check(fields: fields, labels: labels, fail)
  }

  private func checkAnswers(_ fail: (String, String) -> TaskDefinitionError) throws {
    if kind == .label {
      guard labels.count >= 2, labels.count <= 1_000 else {
        throw fail("labels", "a label task has 2 to 1000 labels, found \(labels.count)")
      }
      var seen: Set<String> = []
      for label in labels {
        let plain = TextForm.folded(label)
        if plain.isEmpty { throw fail("labels", "a label is empty") }
        if !seen.insert(plain).inserted {
          throw fail("labels", "the label \"\(label)\" stands twice (capitals aside)")
        }
      }
    } else if !labels.isEmpty {
      throw fail("labels", "only a label task has labels; this one is a \(kind.rawValue) task")
    }
    if kind == .rating {
      guard let rating else { throw fail("rating", "a rating task needs its scale") }
      guard rating.count != nil else {
        throw fail(
          "rating",
          "a scale has minimum < maximum, a positive step that divides the distance, and at most "
            + "\(RatingScale.maximumCount) values")
      }
    } else if rating != nil {
      throw fail("rating", "only a rating task has a scale; this one is a \(kind.rawValue) task")
    }
  }
}

/// What is wrong with a task's definition: which task, which key and why.
public struct TaskDefinitionError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let task: String
  /// The key of the definition, such as `rating`.
  public let key: String
  /// Goes on after the task, the key and a colon.
  public let problem: String

  public var description: String { "task \"\(task)\", \(key): \(problem)" }
  public var errorDescription: String? { description }
}

extension TaskDefinition {
  /// Names of control tokens that the task's own templates for prompts may hold.
  public var controlNames: Set<String> {
    prompt.controlNames.union(historyItem.controlNames).union(profile.controlNames)
  }
}

/// Small shared text forms.
public enum TextForm {
  /// A user's text in which none of these names stands: behind the first character of each comes one
  /// that is not seen (U+2060).
  static func without(_ names: Set<String>, _ text: String) -> String {
    names.reduce(text) { text, name in
      text.replacing(name, with: "\(name.prefix(1))\u{2060}\(name.dropFirst())")
    }
  }

  /// Lower case, trimmed, inner white space as single spaces: how labels are compared.
  public static func folded(_ text: String) -> String { collapsed(text).lowercased() }

  /// Trimmed, inner white space as single spaces.
  public static func collapsed(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// A number for a text that is the same in every run (FNV-1a, 64 bits).
  public static func hash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }

  /// The longest start of whole characters within so many UTF-8 bytes.
  public static func start(of text: String, bytes: Int) -> String {
    var end = text.startIndex
    var length = 0
    for index in text.indices {
      length += text[index].utf8.count
      if length > bytes { break }
      end = text.index(after: index)
    }
    return String(text[..<end])
  }
}

/// What a change of a user's behaviour can be seen in.
public enum ShiftSignal: String, Codable, Sendable, CaseIterable {
  /// The loss of the user's adapter on new events.
  case loss
  /// The outputs.
  case output
  /// The inputs.
  case input
}
