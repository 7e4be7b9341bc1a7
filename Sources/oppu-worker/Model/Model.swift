// `oppu-worker model`: looking at and trying a model file, without Kafka and PostgreSQL.

import ArgumentParsing
import FineTuning
import Foundation
import LanguageModel
import Worker

struct Model: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fetch and inspect a model, tokenise, score and generate.",
    subcommands: [
      ModelPull.self, ModelInspect.self, ModelTokenize.self, ModelScore.self, ModelGenerate.self,
    ])
}

extension LlamaModel {
  /// A command's model; what its file leaves open is told. Blocking.
  static func opened(
    _ path: String, precision: ProductPrecision = .int8
  ) throws -> LlamaModel {
    let model = try LlamaModel.load(path: path, precision: precision)
    for note in model.tokenizer.notes { Failure.say("warning: \(path): \(note)") }
    return model
  }
}

extension PEFTFolder {
  /// A command's adapter; where only its name tells which base model it belongs to, that is told.
  static func opened(
    _ folder: String, model: LlamaModel, over under: Adapter? = nil
  ) throws -> Adapter {
    let adapter = try read(folder, model: model, over: under)
    if let base = try otherBase(of: folder, than: model) {
      Failure.say("note: \(folder) calls its base model \(base); this is \(model.path)")
    }
    return adapter
  }
}

/// The model of a command, with an adapter where one is named.
struct ModelArguments: ParsableArguments {
  @Argument(help: "The model: a GGUF file or a Hugging Face folder.") var model: String
  @Option(
    name: .long, help: "PEFT adapter folder to apply; several are stacked, the lowest first.")
  var adapter: [String] = []

  /// Blocking; call it on a compute queue.
  func load() throws -> (model: LlamaModel, adapter: Adapter?) {
    let model = try LlamaModel.opened(self.model)
    var stack: Adapter?
    for folder in adapter {
      let next = try PEFTFolder.opened(folder, model: model, over: stack)
      stack =
        try stack.map {
          try Adapter.stack([$0, next], configuration: model.configuration)
        } ?? next
    }
    return (model, stack)
  }
}

struct ModelTokenize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize", abstract: "The token ids of texts, as JSON.")

  @Argument(help: "The model: a GGUF file or a Hugging Face folder.") var model: String
  @Option(name: .long, help: "A text; may be repeated. Without one, stdin is read.")
  var text: [String] = []

  private struct Row: Encodable {
    let text: String
    let ids: [Int32]
    let tokens: [String]
  }
  private struct Rows: Encodable { let rows: [Row] }

  func run() async throws {
    try await Failure.explain {
      let texts = text.isEmpty ? [try TextInput.standardInput()] : text
      let path = model
      let rows = try await ComputeQueue("model").run {
        let model = try LlamaModel.opened(path)
        return texts.map { text in
          let ids = model.tokenizer.encode(text)
          return Row(text: text, ids: ids, tokens: ids.map { model.tokenizer.decode([$0]) })
        }
      }
      Swift.print(try OutputOptions.json(Rows(rows: rows), pretty: false))
    }
  }
}

enum TextInput {
  /// All of stdin as UTF-8.
  static func standardInput() throws -> String {
    let data = FileHandle.standardInput.readDataToEndOfFile()
    guard let text = String(data: data, encoding: .utf8) else {
      throw ValidationError("Standard input is not UTF-8.")
    }
    return text
  }
}
