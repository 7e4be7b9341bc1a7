// LoRA adapters as other writers leave them: what they compute is what a plain one of the same numbers does.

import Foundation
import LanguageModel
import LinearAlgebra
import TestSupport
import Testing

@testable import FineTuning

@Suite("LoRA by its tensors")
struct LoRATensorsTests {
  private struct Module {
    var layer: Int
    var projection: Projection
    var rank: Int
    /// What B A is multiplied with.
    var scale: Float
  }

  private let model: LlamaModel
  private let tokens = (0..<24).map { Int32((11 * $0 + 5) % 300) }

  init() throws {
    let folder = Paths.root.appending(path: "Tests/LanguageModelTests/Fixtures/models")
    model = try LlamaModel.load(
      path: folder.appending(path: "llama2").path, precision: .float32)
  }

  private func values(_ module: Module, _ part: Int, _ count: Int) -> [Float] {
    Fixtures.pseudoRandom(
      seed: (module.layer * 10 + module.projection.index) * 2 + part, count: count, scale: 0.3)
  }

  private func widths(_ module: Module) -> (input: Int, output: Int) {
    (
      module.projection.inputWidth(in: model.configuration),
      module.projection.outputWidth(in: model.configuration)
    )
  }

  /// A folder of these modules; `name` gives a tensor's name, `transposed` mlx-lm's order.
  private func read(
    _ modules: [Module], _ json: String, weights: String = PEFTFolder.weightsName,
    transposed: Bool = false, name: (Module, String) -> String
  ) throws -> Adapter {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "oppu-lora-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var entries: [SafetensorsFile.Entry] = []
    for module in modules {
      let (input, output) = widths(module)
      for (part, rows, columns) in [(0, module.rank, input), (1, output, module.rank)] {
        let plain = values(module, part, rows * columns)
        entries.append(
          .init(
            name: name(module, part == 0 ? "A" : "B"),
            shape: transposed ? [columns, rows] : [rows, columns],
            values: transposed
              ? (0..<plain.count).map { plain[$0 % rows * columns + $0 / rows] } : plain))
      }
    }
    try SafetensorsFile.encode(entries).write(to: folder.appending(path: weights))
    try Data(json.utf8).write(to: folder.appending(path: PEFTFolder.configurationName))
    return try PEFTFolder.read(folder.path, model: model)
  }

  /// The same by hand: a plain adapter of one rank, scaled by 1.
  private func plain(_ modules: [Module]) throws -> Adapter {
    let rank = modules.map(\.rank).max() ?? 1
    let targets = Projection.allCases.filter { target in
      modules.contains { $0.projection == target }
    }
    let layers = (0..<model.configuration.layers).map { layer in
      Dictionary(
        uniqueKeysWithValues: targets.map { projection -> (Projection, LoRAFactors) in
          let found = modules.first { $0.layer == layer && $0.projection == projection }
          let module = found ?? Module(layer: layer, projection: projection, rank: 1, scale: 0)
          let (input, output) = widths(module)
          let (a, b) = (FloatBuffer(zeros: rank * input), FloatBuffer(zeros: rank * output))
          for (i, value) in values(module, 0, module.rank * input).enumerated() {
            a.pointer[i] = value
          }
          for (i, value) in values(module, 1, output * module.rank).enumerated() {
            b.pointer[i / module.rank * rank + i % module.rank] = module.scale * value
          }
          return (projection, LoRAFactors(a: a, b: b))
        })
    }
    return try Adapter(
      rank: rank, alpha: Float(rank), targets: targets, layers: layers,
      configuration: model.configuration)
  }

  private func expectSame(_ found: Adapter, _ modules: [Module]) throws {
    let (ours, theirs) = (
      try model.losses(of: tokens, adapter: found),
      try model.losses(of: tokens, adapter: plain(modules))
    )
    for (a, b) in zip(ours, theirs) { #expect(abs(a - b) < 1e-4 * max(1, abs(b))) }
    let none = try model.losses(of: tokens)
    #expect(zip(ours, none).contains { abs($0 - $1) > 1e-2 }, "the adapter does something")
  }

  private func peft(_ module: Module, _ factor: String, _ ending: String = ".weight") -> String {
    "\(PEFTFolder.module(module.layer, module.projection)).lora_\(factor)\(ending)"
  }

  @Test(
    "ranks and alphas by module, some layers, and targets by a pattern are read as the tensors tell"
  )
  func patterns() throws {
    let modules = [
      Module(layer: 0, projection: .query, rank: 2, scale: 4),
      Module(layer: 0, projection: .down, rank: 3, scale: 2),
      Module(layer: 1, projection: .query, rank: 4, scale: 0.5),
    ]
    let json = #"""
      {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "task_type": "CAUSAL_LM",
       "target_modules": ".*\\.(q|down)_proj", "layers_to_transform": [0, 1],
       "rank_pattern": {"down_proj": 3, "layers.1.self_attn.q_proj": 4},
       "alpha_pattern": {"mlp.down_proj": 6, "layers.1.self_attn.q_proj": 2}}
      """#
    let adapter = try read(modules, json) { peft($0, $1) }
    #expect(adapter.lora?.rank == 4 && adapter.lora?.targets == [.query, .down])
    try expectSame(adapter, modules)
  }

  @Test("keys with the adapter's name, and mlx-lm's folders, are read")
  func names() throws {
    let modules = (0..<model.configuration.layers).map {
      Module(layer: $0, projection: .value, rank: 2, scale: 2)
    }
    let json = #"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["v_proj"]}"#
    let named = try read(modules, json) { peft($0, $1, ".default.weight") }
    #expect(named.lora == LoRASettings(rank: 2, alpha: 4, targets: [.value]))
    try expectSame(named, modules)
    let paths = json.replacing("\"v_proj\"", with: "\"self_attn.v_proj\"")
    try expectSame(try read(modules, paths) { peft($0, $1) }, modules)

    let mlx = #"""
      {"fine_tune_type": "lora", "num_layers": 1, "model": "mlx-community/x",
       "lora_parameters": {"rank": 2, "scale": 2.0, "dropout": 0.0}}
      """#
    let last = Array(modules.suffix(1))
    let adapter = try read(last, mlx, weights: "adapters.safetensors", transposed: true) {
      "model.layers.\($0.layer).\($0.projection.moduleName).lora_\($1.lowercased())"
    }
    try expectSame(adapter, last)
  }

  @Test("tensors that do not tell all are refused by name")
  func refused() throws {
    let modules = [Module(layer: 0, projection: .query, rank: 2, scale: 1)]
    func problem(
      _ json: String, _ modules: [Module], _ name: (Module, String) -> String
    ) -> String {
      do {
        _ = try read(modules, json, name: name)
        return "taken"
      } catch { return "\(error)" }
    }
    let plain = #"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}"#
    let loose = plain.replacing("[\"q_proj\"]", with: "\"all-linear\"")
    #expect(
      problem(plain, modules) { peft($0, $1, ".default.weight") }.contains(
        "lacks tensors of layer 1"))
    #expect(problem(loose, modules) { peft($0, $1) } == "taken")
    #expect(
      problem(loose, modules) { $1 == "A" ? peft($0, $1) : "lm_head.lora_B.weight" }
        .contains("lm_head"))
    #expect(
      problem(loose, [Module(layer: 9, projection: .query, rank: 2, scale: 1)]) { peft($0, $1) }
        .contains("layers.9"))
    #expect(
      problem(loose, modules) {
        $1 == "A" ? peft($0, $1) : peft(Module(layer: 1, projection: .query, rank: 2, scale: 1), $1)
      }
      .contains("lacks its counterpart"))
    #expect(
      problem(loose.replacing("\"r\"", with: "\"use_dora\": true, \"r\""), modules) { peft($0, $1) }
        .contains("lacks"))
  }
}
