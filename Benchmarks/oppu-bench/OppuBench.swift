// The engine's speed and memory beside its peers', on this machine, in one run.

import ArgumentParsing

@main
struct OppuBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "oppu-bench",
    abstract: "Measures this project beside its peers on this machine.",
    discussion: "scripts/bench builds and starts it.",
    subcommands: [
      Engine.self, StreamBench.self, IngestBench.self, JobsBench.self, TickBench.self,
      ReactionBench.self, ChaosBench.self,
      Shift.self, Calibrate.self, Soak.self, Measure.self,
    ])
}
