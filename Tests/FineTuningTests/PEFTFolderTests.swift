// Adapters in PEFT's form, in both directions.

import Foundation
import LanguageModel
import LinearAlgebra
import Testing

@testable import FineTuning

@Suite("PEFT folders")
struct PEFTFolderTests {
  struct Recorded: Decodable {
    struct Row: Decodable {
      let ids: [Int32]
      let losses: [Double]
      /// Some of the logits after the last token: their places in the vocabulary, and they.
      let places: [Int]
      let last: [Float]
    }
    let rows: [Row]
  }

  private var folder: String { Fixtures.folder.appendingPathComponent("peft_adapter").path }

  @Test("an adapter trained in PEFT gives the logits here that it gives there")
  func logitsOfPEFT() throws {
    let model = try Fixtures.model.get()
    let adapter = try PEFTFolder.read(folder, model: model)
    let recorded = try JSONDecoder().decode(
      Recorded.self,
      from: Data(contentsOf: Fixtures.folder.appendingPathComponent("peft_logits.json")))
    for row in recorded.rows {
      let chunk = Chunk(
        tokens: row.ids, cache: KVCache(for: model), adapter: adapter, logits: .last)
      let logits = try #require(try model.forward([chunk]).first)[0]
      let worst = zip(row.places, row.last).map { abs(logits[$0] - $1) }.max() ?? .infinity
      #expect(worst < 1e-2)
      print("largest difference of a logit \(worst)")
    }
  }

  @Test("an adapter trained in PEFT gives the token losses here that it gives there")
  func trainedInPEFT() throws {
    let model = try Fixtures.model.get()
    let adapter = try PEFTFolder.read(folder, model: model)
    #expect(adapter.lora == LoRASettings(rank: 2, alpha: 4, targets: [.key]))
    #expect(adapter.lora?.scaling == 2)
    let recorded = try JSONDecoder().decode(
      Recorded.self,
      from: Data(contentsOf: Fixtures.folder.appendingPathComponent("peft_logits.json")))
    let trainer = try AdapterTrainer(model: model, configuration: TrainingConfiguration())
    for row in recorded.rows {
      // One example for each token: prompt and that token, so that each loss is seen alone.
      let examples = (1..<row.ids.count).map {
        TrainingExample(prompt: Array(row.ids[..<$0]), completion: [row.ids[$0]])
      }
      let ours = try trainer.loss(of: examples, adapter: adapter).examples
      let worst = zip(ours, row.losses).map { abs($0 - $1) }.max() ?? .infinity
      #expect(ours.count == row.losses.count && worst < 2e-3)
      print("largest difference of a token's loss \(worst)")
    }
  }

  @Test("folder and bytes give back the same adapter")
  func roundTrip() throws {
    let model = try Fixtures.model.get()
    let adapter = try PEFTFolder.read(folder, model: model)
    let target = FileManager.default.temporaryDirectory.appendingPathComponent(
      "oppu-peft-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: target) }
    try PEFTFolder.write(adapter, to: target.path, baseModel: "base", fingerprint: nil)
    let again = try PEFTFolder.read(target.path, model: model)
    let settings = try PEFTConfiguration(adapter, baseModel: "base")
    #expect(
      try PEFTConfiguration(
        json: Data(contentsOf: target.appendingPathComponent(PEFTFolder.configurationName)))
        == settings)
    let bytes = try PEFTFolder.decode(
      PEFTFolder.encode(adapter), settings: settings, model: model)
    for layer in 0..<adapter.layerCount {
      let factors = try #require(adapter.factors(layer: layer, .key))
      for other in [again, bytes] {
        #expect(other.factors(layer: layer, .key)?.a.array == factors.a.array)
        #expect(other.factors(layer: layer, .key)?.b.array == factors.b.array)
      }
    }
    // PEFT's own file and ours name the same tensors with the same shapes.
    let theirs = try SafetensorsFile(path: folder + "/" + PEFTFolder.weightsName)
    let ours = try SafetensorsFile(data: PEFTFolder.encode(adapter))
    #expect(ours.tensors.mapValues(\.shape) == theirs.tensors.mapValues(\.shape))
    #expect(ours.metadata == theirs.metadata)
  }

  @Test(
    "an option that would change the result is refused by name",
    arguments: [
      (#""peft_type":"LOHA""#, "LOHA"), (#""r":0"#, "r must be"), (#""r":2.5"#, "r must be"),
      (#""r":true"#, "r is not a number"), (#""r":100000"#, "r must be"),
      (#""bias":"all""#, "bias"), (#""use_dora":1"#, "use_dora"),
      (#""modules_to_save":["lm_head"]"#, "modules_to_save"),
      (#""alpha_pattern":{"(q|v)_proj":4}"#, "alpha_pattern"),
      (#""alpha_pattern":[4]"#, "alpha_pattern"),
      (#""target_modules":["attn.c_attn"]"#, "c_attn"),
      (#""target_modules":["c_attn"]"#, "c_attn"), (#""target_modules":[]"#, "empty"),
      (#""task_type":"SEQ_CLS""#, "SEQ_CLS"), (#""fan_in_fan_out":true"#, "fan_in_fan_out"),
      (#""init_lora_weights":"pissa""#, "pissa"), (#""lora_alpha":"8""#, "lora_alpha"),
      (#""an_option_of_tomorrow":1"#, "an_option_of_tomorrow"),
    ])
  func refused(change: String, reason: String) throws {
    let key = try #require(change.split(separator: ":").first)
    let plain = [
      #""peft_type":"LORA""#, #""r":1"#, #""lora_alpha":2"#, #""target_modules":["q_proj"]"#,
      #""lora_dropout":0"#, #""use_dora":false"#, #""an_option_of_yesterday":null"#,
    ]
    let accepted = try PEFTConfiguration(json: Data("{\(plain.joined(separator: ","))}".utf8))
    #expect(accepted.method == .lora(LoRASettings(rank: 1, alpha: 2, targets: [.query])))
    let lines = plain.filter { !$0.hasPrefix(key) } + [change]
    do {
      _ = try PEFTConfiguration(
        json: Data("{\(lines.joined(separator: ","))}".utf8), file: "c.json")
      Issue.record("accepted")
    } catch {
      #expect("\(error)".hasPrefix("c.json: ") && "\(error)".contains(reason), "\(error)")
    }
  }

  @Test("an adapter of another base model is refused, with both; of a differing name is told")
  func otherBase() throws {
    let model = try Fixtures.model.get()
    let adapter = try PEFTFolder.read(folder, model: model)
    let target = FileManager.default.temporaryDirectory.appendingPathComponent(
      "oppu-peft-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: target) }
    func write(_ base: String, _ fingerprint: String?) throws {
      try PEFTFolder.write(
        adapter, to: target.path, baseModel: base, fingerprint: fingerprint)
    }
    try write("other-135M", model.fingerprint)
    _ = try PEFTFolder.read(target.path, model: model)
    #expect(try PEFTFolder.otherBase(of: target.path, than: model) == nil, "the bytes are the same")
    try write("other-135M", "0123456789abcdef")
    do {
      _ = try PEFTFolder.read(target.path, model: model)
      Issue.record("taken")
    } catch let error as PEFTError {
      #expect(error.problem.contains("other-135M (0123456789ab…)"))
      #expect(error.problem.contains("\(model.path) (\(model.fingerprint.prefix(12))…)"))
    }
    try write("other-135M", nil)
    _ = try PEFTFolder.read(target.path, model: model)
    #expect(try PEFTFolder.otherBase(of: target.path, than: model) == "other-135M")
    for name in ["HuggingFaceTB/SmolLM2-135M-Instruct", model.path, ""] {
      try write(name, nil)
      #expect(try PEFTFolder.otherBase(of: target.path, than: model) == nil, "\(name)")
    }
  }

  @Test("rank-stabilised scaling is honoured and written back")
  func rankStabilized() throws {
    let lora = LoRASettings(rank: 4, alpha: 8, targets: [.query], rankStabilized: true)
    let settings = PEFTConfiguration(.lora(lora))
    #expect(lora.scaling == 4)
    #expect(try PEFTConfiguration(json: settings.json()) == settings)
  }

  @Test("missing, unknown and misshapen tensors are refused by name")
  func tensors() throws {
    let model = try Fixtures.model.get()
    let adapter = try PEFTFolder.read(folder, model: model)
    let file = try SafetensorsFile(data: PEFTFolder.encode(adapter))
    var entries = try file.tensors.map {
      SafetensorsFile.Entry(name: $0.key, shape: $0.value.shape, values: try file.floats($0.key))
    }.sorted { $0.name < $1.name }
    func problem(_ entries: [SafetensorsFile.Entry], rank: Int = 2) throws -> String {
      do {
        _ = try PEFTFolder.decode(
          SafetensorsFile.encode(entries),
          settings: PEFTConfiguration(.lora(LoRASettings(rank: rank, alpha: 4, targets: [.key]))),
          model: model)
        return "accepted"
      } catch let error as PEFTError { return error.description }
    }
    #expect(try problem(entries) == "accepted")
    #expect(try problem(entries, rank: 4).contains("need [4, 576]"))
    #expect(try problem(Array(entries.dropFirst())).contains("lacks the tensor"))
    #expect(
      try problem(entries + [.init(name: "lm_head.weight", shape: [1], values: [0])])
        .contains("lm_head.weight"))
    let first = entries.removeFirst()
    entries.append(
      .init(name: first.name, shape: first.shape, values: first.values.map { _ in .nan }))
    #expect(try problem(entries).contains("not finite"))
  }
}
