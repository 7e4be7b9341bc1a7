// `oppu-bench engine`: every line of the engine's goals, ours and the peer's in the same run.

import ArgumentParsing
import Foundation
import LinearAlgebra

struct Engine: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Training, prefill, decoding, many users and memory, beside PyTorch + PEFT and llama.cpp.",
    discussion: """
      Absolute figures differ between machines and hours; the ratios are what counts. Let nothing
      else run meanwhile. Peers that are not installed are named, and ours is measured all the same.
      """)

  @Option(help: "The model, a GGUF file.") var model: String
  @Option(help: "Also writes the figures to this file, as JSON.") var json: String?
  @Option(
    name: .customLong("prefix-data"),
    help: "JSONL of {\"prompt\", \"completion\"} with a common beginning; may be repeated.")
  var prefixData: [String] = []
  @Option(name: .customLong("plain-data"), help: "The same, without a common beginning.")
  var plainData: String?
  @Option(help: "The Python with the peers (see scripts/bench --help).") var python: String
  @Option(help: "This project's folder.") var project: String
  @Option(help: "Threads for us and for the peers.")
  var threads = ProcessInfo.processInfo.activeProcessorCount

  func run() throws {
    let programs = PeerPrograms(model: model, threads: threads, python: python, project: project)
    var report = EngineReport(machine: .here(threads: threads), versions: [:])
    try training(programs, &report)
    try inference(programs, &report)
    try memory(programs, &report)
    print(report.table())
    if let json { try report.json().write(to: URL(fileURLWithPath: json), options: .atomic) }
  }

  private func training(_ programs: PeerPrograms, _ report: inout EngineReport) throws {
    let folder = "\(project)/Benchmarks/data"
    let prefixed =
      prefixData.isEmpty
      ? ["\(folder)/film_tag.jsonl", "\(folder)/email_subject.jsonl"] : prefixData
    let data = prefixed + [plainData ?? "\(folder)/no_prefix.jsonl"]
    say("training on \(data.count) sets, ours")
    let ours = try programs.measure(.training, data: data)
    var peer: PeerFigures?
    if programs.has("peft") {
      say("training on the same sets, PyTorch + PEFT (some minutes)")
      peer = try programs.peer("peft_training.py", data.flatMap { ["--data", $0] })
      report.versions.merge(peer?.versions ?? [:]) { $1 }
    } else {
      missing("PyTorch, transformers and PEFT", "pip install torch transformers peft gguf")
    }
    for (index, path) in data.enumerated() {
      let name = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
      let run = peer?.runs?[index]
      if let run, let loss = ours["last_epoch_loss \(index)"] {
        say(
          String(
            format: "%@: loss of the last epoch %.4f, the peer's %.4f", name, loss,
            run.lastEpochLoss))
      }
      if index < prefixed.count {
        report.add(
          "training, common instruction (\(name))", ours["examples_per_s \(index)"] ?? 0,
          run?.examplesPerS, goal: 5, unit: "examples/s")
      } else {
        report.add(
          "training, no common prefix (\(name))", ours["tokens_per_s \(index)"] ?? 0,
          run?.tokensPerS, goal: 2.2, unit: "tokens/s")
      }
    }
  }

  private func inference(_ programs: PeerPrograms, _ report: inout EngineReport) throws {
    var torch: PeerFigures?
    var llama: PeerFigures?
    if programs.has("transformers") {
      say("prefill, PyTorch")
      torch = try programs.peer("torch_prefill.py")
    }
    if programs.has("llama_cpp") {
      say("prefill, decoding and 16 users, llama.cpp")
      llama = try programs.peer("llamacpp.py")
      report.versions.merge(llama?.versions ?? [:]) { $1 }
    } else {
      missing("llama.cpp", "pip install llama-cpp-python (compiles for some minutes)")
    }
    say("prefill, decoding and 16 users, ours")
    let prefill = try programs.measure(.prefill)["tokens_per_s"] ?? 0
    report.add(
      "prefill of 512 tokens, against PyTorch", prefill, torch?.tokensPerS, goal: 1.5,
      unit: "tokens/s")
    report.add(
      "prefill of 512 tokens, against llama.cpp", prefill, llama?.prefillTokensPerS, goal: 4,
      unit: "tokens/s")
    report.add(
      "decoding, one stream, against llama.cpp",
      try programs.measure(.decode)["tokens_per_s"] ?? 0, llama?.decodeTokensPerS, goal: 2,
      unit: "tokens/s")
    let users = try programs.measure(.users)
    report.add(
      "16 users with 16 adapters, against llama.cpp", users["requests_per_s"] ?? 0,
      llama?.usersRequestsPerS, goal: 8, unit: "requests/s")
    report.add(
      "16 users with adapters, against without", users["requests_per_s"] ?? 0,
      users["requests_per_s without adapters"], goal: 0.85, unit: "requests/s")
  }

  private func memory(_ programs: PeerPrograms, _ report: inout EngineReport) throws {
    say("memory, ours")
    let inference = try programs.measure(.inferenceMemory)
    let file = try FileManager.default.attributesOfItem(atPath: model)[.size] as? Int ?? 0
    report.addSize(
      "memory of inference, against file and KV cache", inference["resident_bytes"] ?? 0,
      against: Double(file) + (inference["kv_bytes"] ?? 0), goal: 1 / 1.5)
    let training = try programs.measure(.trainingMemory)
    report.addSize(
      "memory of training 16 x 256 tokens, against 1.2 GiB", training["resident_bytes"] ?? 0,
      against: 1.2 * 1_073_741_824, goal: 1)
  }

  private func say(_ text: String) {
    FileHandle.standardError.write(Data("bench: \(text)\n".utf8))
  }

  private func missing(_ name: String, _ remedy: String) {
    say("\(name) not installed for \(python): \(remedy). Only ours is measured there.")
  }
}
