// Where the results of an evaluation come from: versions, machine, data.

import Cryptography
import EvaluationReport
import Foundation
import LanguageModel
import LinearAlgebra

enum EvaluationProvenance {
  /// - Parameter files: what was read.
  static func now(
    model: LlamaModel, files: [String], seed: UInt64, started: Date
  ) throws -> Provenance {
    let information = ProcessInfo.processInfo
    let memory = Double(information.physicalMemory) / 1_073_741_824
    return Provenance(
      versions: [
        "oppu-worker": OPPUWorker.configuration.version,
        "matrix kernels": BLAS.shared.report.coreName, "8-bit kernels": "\(Int8Level.best)",
      ], seed: seed,
      model: .init(
        name: URL(fileURLWithPath: model.path).lastPathComponent, fingerprint: model.fingerprint),
      machine: "\(processor()), \(ThreadPool.shared.width) threads, "
        + String(format: "%.0f GiB, ", memory) + information.operatingSystemVersionString,
      commandLine: CommandLine.arguments.joined(separator: " "), started: started,
      finished: Date(),
      data: try files.map { file in
        let hash = SHA256.hash(data: try Data(contentsOf: URL(fileURLWithPath: file)))
        return .init(file: file, sha256: hash.hexadecimal)
      })
  }

  private static func processor() -> String {
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    return lines.split(separator: "\n").first { $0.hasPrefix("model name") }?
      .split(separator: ":").last?.trimmingCharacters(in: .whitespaces) ?? "unknown processor"
  }
}
