// `finetune` as people run it: what an adapter goes on from, and where things lie.

import Foundation
import TestSupport
import Testing

@Suite("finetune") struct FinetuneTests {
  private static let models = Paths.root.appending(
    path: "Tests/LanguageModelTests/Fixtures/models")
  private let folder: TemporaryFolder
  private let data: String

  init() throws {
    folder = try TemporaryFolder()
    data = try folder.file("rows.jsonl", #"{"prompt":"Film: X\nTag:","completion":" nineties"}"#)
  }

  private func finetune(_ options: String..., model: String = "llama2.gguf") throws -> Program {
    try Program(
      ["finetune", "--model", Self.models.appending(path: model).path, "--epochs", "1"]
        + (options.contains("--data") ? [] : ["--data", data]) + options)
  }

  private func out(_ name: String) -> String { folder.url.appending(path: name).path }

  @Test(
    "an example of a model that begins texts with a token has it once",
    arguments: ["llama2.gguf", "llama3.gguf", "mistral.gguf"])
  func beginning(model: String) throws {
    let run = try finetune(model: model)
    #expect(run.status == 0, "\(run.errors)")
    let tokenized = try Program([
      "model", "tokenize", Self.models.appending(path: model).path, "--text",
      "Film: X\nTag: nineties",
    ])
    let row = (try tokenized.object()["rows"] as? [[String: Any]])?.first
    let whole = try #require(row?["ids"] as? [Int])
    // As one text, and an end of text.
    #expect(try run.object()["tokens"] as? Int == whole.count + 1, "\(whole)")
  }

  @Test("--from takes method, rank, alpha and targets from the adapter; a contradiction names both")
  func goesOn() throws {
    #expect(
      try finetune(
        "--rank", "4", "--alpha", "8", "--targets", "q_proj,o_proj", "--out", out("lora")
      ).status == 0)
    let again = try finetune("--from", out("lora"), "--out", out("more"))
    #expect(again.status == 0, "\(again.errors)")
    let json = try JSONSerialization.jsonObject(
      with: Data(contentsOf: URL(filePath: out("more") + "/adapter_config.json")))
    let settings = try #require(json as? [String: Any])
    #expect(settings["r"] as? Int == 4 && settings["lora_alpha"] as? Int == 8)
    #expect(Set(settings["target_modules"] as? [String] ?? []) == ["q_proj", "o_proj"])

    let other = try finetune("--from", out("lora"), "--rank", "8")
    #expect(other.status == 2)
    #expect(other.errors.contains("rank 4") && other.errors.contains("rank 8"), "\(other.errors)")
    #expect(other.speaksPlainly)

    #expect(try finetune("--method", "ia3", "--out", out("ia3")).status == 0)
    #expect(try finetune("--from", out("ia3")).status == 0)
    let foreign = try finetune("--from", out("ia3"), "--method", "lora")
    #expect(foreign.status == 2)
    #expect(foreign.errors.contains("(IA)³ on k_proj, v_proj and down_proj"), "\(foreign.errors)")
    #expect(foreign.speaksPlainly)
  }

  @Test("what cannot be written or read is told before the training, in a sentence")
  func places() throws {
    let file = try folder.file("taken", "")
    for (options, reason) in [
      (["--out", file], "it is a file"), (["--out", file + "/below"], "not a folder"),
    ] {
      let run = try Program(
        ["finetune", "--model", Self.models.appending(path: "llama2.gguf").path, "--data", data]
          + options)
      #expect(run.status == 1 && run.errors.contains(reason), "\(run.errors)")
      #expect(!run.errors.contains("loss"), "nothing was trained: \(run.errors)")
      #expect(run.speaksPlainly)
    }
    for (path, reason) in [
      (folder.path, "it is a folder"), (folder.path + "/none", "no such file"),
      (try folder.file("text", "x"), "not a JSON object"),
    ] {
      let run = try finetune("--data", path)
      #expect(run.status == 1 && run.errors.contains(reason), "\(run.errors)")
      #expect(run.errors.contains(path))
      #expect(run.speaksPlainly)
    }
  }

  @Test("a byte order mark is passed over, and UTF-16 is called so")
  func encodings() throws {
    let text = #"{"prompt":"a","completion":"b"}"#
    let marked = try folder.file("marked.jsonl", "\u{FEFF}" + text)
    #expect(try finetune("--data", marked).status == 0)
    let wide = folder.url.appending(path: "wide.jsonl")
    try Data([0xFF, 0xFE] + text.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }).write(
      to: wide)
    let run = try finetune("--data", wide.path)
    #expect(run.status == 1 && run.errors.contains("is UTF-16"), "\(run.errors)")
  }

  @Test("a setting out of range is a usage error, and --memory raises the limit of training")
  func usage() throws {
    let run = try finetune("--rank", "0")
    #expect(run.status == 2 && run.errors.contains("rank"), "\(run.errors)")
    let tight = try finetune("--memory", "1")
    #expect(tight.status == 1 && tight.errors.contains("--memory"), "\(tight.errors)")
  }

  @Test("an example that is too long for the model's context is named by its line")
  func line() throws {
    let text = (0..<200).map { "w\($0)" }.joined(separator: " ")
    let rows = try folder.file(
      "long.jsonl",
      "\n" + #"{"prompt":"a","completion":"b"}"# + "\n"
        + #"{"prompt":"a","completion":"\#(text)"}"#)
    let run = try finetune("--data", rows)
    #expect(run.status == 1 && run.errors.contains("line 3: its completion has"), "\(run.errors)")
  }

  @Test(
    "an adapter of another base model is refused with both, when it is applied and when it is gone on from"
  )
  func otherBase() throws {
    #expect(try finetune("--out", out("adapter")).status == 0)
    let model = folder.url.appending(path: "other.gguf")
    // The same model but for one byte of its weights.
    var bytes = try Data(contentsOf: Self.models.appending(path: "llama2.gguf"))
    bytes[bytes.count - 3] ^= 1
    try bytes.write(to: model)
    let applied = try Program([
      "model", "generate", model.path, "--adapter", out("adapter"), "--prompt", "x",
      "--max-tokens", "1",
    ])
    let more = try Program([
      "finetune", "--model", model.path, "--data", data, "--from", out("adapter"),
    ])
    for run in [applied, more] {
      #expect(run.status == 1, "\(run.output)")
      #expect(run.errors.contains("trained on another base model"), "\(run.errors)")
      #expect(run.errors.contains("llama2.gguf (") && run.errors.contains("other.gguf ("))
    }
  }
}
