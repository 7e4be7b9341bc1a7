// Results to test with: one task whole, and a hostile one.

import Foundation

@testable import EvaluationReport

enum Samples {
  static let provenance = Provenance(
    versions: ["oppu-worker": "0.3.0", "swift": "6.3.1"], seed: 7,
    model: .init(name: "SmolLM2-135M-Instruct", fingerprint: "sha256:0f1e"),
    machine: "2 cores, 8 GiB, Debian 12", commandLine: "oppu-worker evaluate --task LaMP_2N",
    started: Date(timeIntervalSince1970: 1_790_000_000),
    finished: Date(timeIntervalSince1970: 1_790_000_840),
    data: [.init(file: "LaMP_2N/questions.json", sha256: "ab12")])

  static let accuracy = MetricInfo("accuracy", higherIsBetter: true)
  static let error = MetricInfo("mae", higherIsBetter: false)

  static let arms: [ArmInfo] = [
    .init(name: "majority", title: "user's commonest", family: .baseline),
    .init(name: "base", title: "Base", family: .prompt),
    .init(name: "rag4", title: "RAG, k 4", family: .prompt),
    .init(name: "task", title: "Task adapter", family: .task),
    .init(name: "oppu", title: "OPPU", family: .oppu),
  ]

  /// A label task with every study.
  static let news = EvaluationResults(
    task: "LaMP_2N", kind: "label",
    metrics: [accuracy, .init("macro_f1", higherIsBetter: true)], armList: arms,
    arms: [
      "majority": .init(values: ["accuracy": 0.66, "macro_f1": 0.2], n: 100, seconds: 0.02),
      "base": .init(values: ["accuracy": 0.31, "macro_f1": 0.12], n: 100, seconds: 12.25),
      "rag4": .init(values: ["accuracy": 0.56, "macro_f1": 0.34], n: 100, seconds: 20.5),
      "task": .init(values: ["accuracy": 0.5, "macro_f1": 0.3], n: 100, seconds: 40),
      "oppu": .init(values: ["accuracy": 0.71, "macro_f1": 0.48], n: 100, seconds: 130),
    ],
    armIntervals: [
      "base": ["accuracy": Interval(0.22, 0.4)!], "rag4": ["accuracy": Interval(0.46, 0.66)!],
      "oppu": ["accuracy": Interval(0.62, 0.8)!],
    ],
    comparisons: [
      .init(a: "oppu", b: "rag4", metric: "accuracy", difference: 0.15, low: 0.06, high: 0.24),
      .init(a: "oppu", b: "rag4", metric: "macro_f1", difference: 0.14, low: 0.02, high: 0.2),
      .init(a: "majority", b: "oppu", metric: "accuracy", difference: -0.05, low: -0.1, high: 0.02),
    ],
    activity: [
      .init(
        level: "low", lowItems: 12, highItems: 30, users: 1, n: 40,
        arms: ["rag4": ["accuracy": .init(0.5)], "oppu": ["accuracy": .init(0.6)]]),
      .init(
        level: "high", lowItems: 31, highItems: 1_200, users: 1, n: 60,
        arms: ["rag4": ["accuracy": .init(0.6, low: 0.5, high: 0.7)]]),
    ],
    shift: .init(
      text: "Queries like the history, and others.",
      before: .init(users: 2, n: 50, arms: ["oppu": ["accuracy": .init(0.8)]]),
      after: .init(users: 2, n: 50, arms: ["oppu": ["accuracy": .init(0.6)]])),
    heldOut: [
      .init(arm: "oppu", points: [.init(events: 0, loss: 2.25), .init(events: 32, loss: 1.125)]),
      .init(
        arm: "oppu", user: "u1", points: [.init(events: 0, loss: 2), .init(events: 9, loss: 1)]),
    ],
    streaming: [stream],
    studies: [
      .init(
        name: "methods", title: "PEFT methods",
        rows: [
          .init(
            label: "LoRA", values: ["accuracy": .init(0.71), "parameters": .init(460_800)], n: 100,
            seconds: 130),
          .init(label: "(IA)³", values: ["accuracy": .init(0.6)], n: 100, seconds: 90),
        ])
    ],
    users: .init(done: ["u1", "u2"], leftOut: [.init(user: "u3", reason: "the budget was spent")]),
    notes: [.init(file: "questions.json", row: 17, text: "The query has no gold.")],
    configuration: ["preset": "default", "lora": ["rank": 8, "targets": ["q", "v"]]],
    provenance: provenance)

  static let stream = StreamingStudy(
    title: "planted shift", metric: accuracy, users: 2, events: 80,
    policies: [
      .init(
        name: "never", title: "Never", n: 80, value: .init(0.5, low: 0.4, high: 0.6),
        trainingSeconds: 0, trainings: 0, shareOfOracleMetric: 0.7143, shareOfOracleCost: 0,
        curve: [.init(event: 1, value: 0, seconds: 0), .init(event: 80, value: 0.5, seconds: 0)]),
      .init(
        name: "on_shift", title: "On detected shift", n: 80,
        value: .init(0.68, low: 0.6, high: 0.75),
        trainingSeconds: 16, trainings: 3, shareOfOracleMetric: 0.9714, shareOfOracleCost: 0.16,
        curve: [.init(event: 1, value: 0, seconds: 0), .init(event: 80, value: 0.68, seconds: 16)]),
      .init(
        name: "oracle", title: "Oracle", n: 80, value: .init(0.7, low: 0.6, high: 0.8),
        trainingSeconds: 100, trainings: 80, shareOfOracleMetric: 1, shareOfOracleCost: 1,
        curve: [.init(event: 1, value: 0, seconds: 1), .init(event: 80, value: 0.7, seconds: 100)]),
    ], shifts: [40])

  /// Two arms of a task and their comparison.
  static func pair(
    _ metric: MetricInfo, prompt: Double, oppu: Double, difference: Double, low: Double,
    high: Double, queries: Int = 100, task: String = "film"
  ) -> EvaluationResults {
    EvaluationResults(
      task: task, kind: "label", metrics: [metric],
      armList: arms.filter { ["rag4", "oppu"].contains($0.name) },
      arms: [
        "rag4": .init(values: [metric.name: prompt], n: queries, seconds: 1),
        "oppu": .init(values: [metric.name: oppu], n: queries, seconds: 2),
      ],
      comparisons: [
        .init(
          a: "oppu", b: "rag4", metric: metric.name, difference: difference, low: low, high: high)
      ], users: .init(done: ["u1", "u2"]), provenance: provenance)
  }

  static let evil = "<script>alert(\"x\")</script>' onload='x' & ]]> \u{0}\u{8}\u{202E}"

  /// `news` with the evil text wherever text can come from outside.
  static let hostile: EvaluationResults = {
    var results = news
    results.task = evil
    results.kind = evil
    results.metrics[1].name = evil
    results.armList = results.armList.map { .init(name: $0.name, title: evil, family: $0.family) }
    results.arms[evil] = .init(values: ["accuracy": 0.1, evil: 0.3], n: 3, seconds: 1)
    results.activity[0].level = evil
    results.shift?.text = evil
    results.heldOut[1].user = evil
    results.streaming[0].title = evil
    results.streaming[0].policies[0].title = evil
    results.studies[0].title = evil
    results.studies[0].rows[0].label = evil
    results.studies[0].rows[0].values[evil] = .init(1)
    results.users = .init(done: [evil], leftOut: [.init(user: evil, reason: evil)])
    results.notes = [.init(file: evil, row: 1, text: evil)]
    results.configuration = .object([evil: .string(evil)])
    results.provenance.commandLine = evil
    results.provenance.machine = evil
    results.provenance.versions = [evil: evil]
    results.provenance.model = .init(name: evil, fingerprint: evil)
    results.provenance.data = [.init(file: evil, sha256: evil)]
    return results
  }()

  /// Nothing but a name.
  static let empty = EvaluationResults(
    task: "empty", kind: "text", metrics: [], provenance: provenance)

  /// Metrics without a single number.
  static let withoutNumbers = EvaluationResults(
    task: "nan", kind: "rating", metrics: [error], armList: arms,
    arms: [
      "rag4": .init(values: ["mae": .nan], n: 0, seconds: .nan),
      "oppu": .init(values: ["mae": .infinity], n: 0, seconds: 0),
    ],
    comparisons: [
      .init(a: "oppu", b: "rag4", metric: "mae", difference: .nan, low: .nan, high: .infinity)
    ],
    activity: [
      .init(
        level: "low", lowItems: 0, highItems: 0, users: 0, n: 0,
        arms: ["oppu": ["mae": .init(.nan, low: .nan, high: .nan)]])
    ],
    shift: .init(
      text: "", before: .init(users: 0, n: 0, arms: [:]), after: .init(users: 0, n: 0, arms: [:])),
    heldOut: [
      .init(arm: "oppu", points: [.init(events: 0, loss: .nan)]), .init(arm: "x", points: []),
    ],
    streaming: [
      .init(
        title: "none", metric: error, users: 0, events: 0,
        policies: [
          .init(
            name: "oracle", title: "Oracle", n: 0, value: .init(.nan), trainingSeconds: .nan,
            trainings: 0, shareOfOracleMetric: .nan, shareOfOracleCost: .infinity,
            curve: [.init(event: 1, value: .nan, seconds: .nan)])
        ])
    ],
    studies: [
      .init(
        name: "methods", title: "PEFT methods",
        rows: [.init(label: "LoRA", values: ["mae": .init(.nan)], n: 0, seconds: .nan)]),
      .init(name: "formats", title: "Formats", rows: []),
    ], provenance: provenance)
}

/// The samples by name, for tests that go over them.
enum Sample: String, CaseIterable {
  case news, hostile, empty, withoutNumbers

  var results: EvaluationResults {
    switch self {
    case .news: Samples.news
    case .hostile: Samples.hostile
    case .empty: Samples.empty
    case .withoutNumbers: Samples.withoutNumbers
    }
  }
}
