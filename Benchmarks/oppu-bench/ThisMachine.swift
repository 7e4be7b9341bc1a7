// The machine on which a report was made.

import Foundation
import LinearAlgebra

extension EngineReport.Machine {
  static func here(threads: Int) -> EngineReport.Machine {
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let processor =
      lines.split(separator: "\n").first { $0.hasPrefix("model name") }?
      .split(separator: ":").last?.trimmingCharacters(in: .whitespaces) ?? "unknown"
    return EngineReport.Machine(
      processor: processor, threads: threads, memoryBytes: ProcessInfo.processInfo.physicalMemory,
      matrixKernels: BLAS.shared.report.coreName, int8Kernels: "\(Int8Level.best)")
  }
}
