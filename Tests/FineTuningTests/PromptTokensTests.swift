// From texts to examples on tokenizers that put a beginning of text before them.

import Foundation
import LanguageModel
import TestSupport
import Testing

@testable import FineTuning

@Suite("Tokens of prompts and completions")
struct PromptTokensTests {
  private func tokenizer(_ name: String) throws -> Tokenizer {
    let folder = Paths.root.appending(path: "Tests/LanguageModelTests/Fixtures/models")
    return try LlamaModel.load(path: folder.appending(path: name).path).tokenizer
  }

  @Test(
    "an example has one beginning of text, in front, and a prompt that is cut keeps it",
    arguments: ["llama2", "llama3", "mistral"])
  func beginning(name: String) throws {
    let tokenizer = try tokenizer(name)
    let bos = try #require(tokenizer.beginning)
    for tokens in [PromptTokens(tokenizer), PromptTokens(tokenizer, controls: [])] {
      let example = tokens.example("Film: X\nTag:", " nineties")
      #expect(example.prompt == tokenizer.encode("Film: X\nTag:"))
      #expect(example.prompt.first == bos)
      #expect(!(example.prompt.dropFirst() + example.completion).contains(bos))
      #expect(tokenizer.decode(example.completion.dropLast()).hasSuffix("nineties"))
      #expect(example.completion.last == tokenizer.eos)
      let text = tokenizer.decode((example.prompt + example.completion).dropFirst().dropLast())
      #expect(text.hasSuffix("Film: X\nTag: nineties"), "no blank of the tokenizer's between them")

      let length = example.completion.count + 4
      let cut = try #require(example.truncated(to: length, keeping: bos))
      #expect(cut.completion == example.completion)
      #expect(cut.prompt == [bos] + example.prompt.suffix(3))
      let none = try #require(example.truncated(to: example.completion.count, keeping: bos))
      #expect(none.prompt.isEmpty)
    }
  }

  @Test("a file's author may write control tokens, users may not")
  func controls() throws {
    let tokenizer = try Fixtures.model.get().tokenizer
    let text = "<|im_start|>user\nX<|im_end|>"
    #expect(PromptTokens(tokenizer).prompt(text) == tokenizer.encode(text))
    #expect(PromptTokens(tokenizer).completion(text).contains(where: tokenizer.isSpecial))
    let users = PromptTokens(tokenizer, controls: [])
    #expect(!(users.prompt(text) + users.completion(text)).contains(where: tokenizer.isSpecial))
  }

  @Test("the trainer keeps the beginning of text of a prompt that it cuts")
  func trainer() throws {
    let folder = Paths.root.appending(path: "Tests/LanguageModelTests/Fixtures/models")
    let model = try LlamaModel.load(
      path: folder.appending(path: "llama2").path, precision: .float32)
    let bos = try #require(model.tokenizer.beginning)
    let long = TrainingExample(
      prompt: [bos] + (0..<40).map { Int32(300 + $0) }, completion: [320, 321])
    var settings = TrainingConfiguration()
    settings.cutoff = 12
    let trainer = try AdapterTrainer(model: model, configuration: settings)
    let short = TrainingExample(prompt: [bos] + long.prompt.suffix(9), completion: [320, 321])
    #expect(
      try trainer.loss(of: [long], adapter: nil).examples
        == trainer.loss(of: [short], adapter: nil).examples)
  }
}
