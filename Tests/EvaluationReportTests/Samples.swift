// Results to test with.

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

  static let news = EvaluationResults(
    task: "LaMP_2N", kind: "label",
    metrics: [.init("accuracy", higherIsBetter: true), .init("macro_f1", higherIsBetter: true)],
    armList: [
      .init(name: "base", title: "Base", family: .prompt),
      .init(name: "rag4", title: "RAG, k 4", family: .prompt),
      .init(name: "oppu", title: "OPPU", family: .oppu),
    ],
    arms: [
      "base": .init(values: ["accuracy": 0.31, "macro_f1": 0.12], n: 100, seconds: 12.25),
      "rag4": .init(values: ["accuracy": 0.56, "macro_f1": 0.34], n: 100, seconds: 20.5),
      "oppu": .init(values: ["accuracy": 0.71, "macro_f1": 0.48], n: 100, seconds: 130),
    ],
    armIntervals: [
      "base": ["accuracy": Interval(0.22, 0.4)!], "rag4": ["accuracy": Interval(0.46, 0.66)!],
      "oppu": ["accuracy": Interval(0.62, 0.8)!],
    ],
    comparisons: [
      .init(a: "oppu", b: "rag4", metric: "accuracy", difference: 0.15, low: 0.06, high: 0.24)
    ],
    users: .init(done: ["u1", "u2"]),
    configuration: ["preset": "default", "lora": ["rank": 8, "targets": ["q", "v"]]],
    provenance: provenance)
}
