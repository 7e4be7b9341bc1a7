// `model` as people run it: questions to an instruct model, and files that leave something open.

import Foundation
import TestSupport
import Testing

@Suite("model") struct ModelTests {
  private let model = Paths.root.appending(
    path: ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"
  ).path

  @Test("--chat asks in the file's template; without it an immediate end of text is explained")
  func chat() throws {
    let question = "What is the capital of France?"
    let bare = try Program([
      "model", "generate", model, "--prompt", question, "--max-tokens", "12",
    ])
    #expect(bare.status == 0)
    #expect(bare.errors.contains("ended its text at once") && bare.errors.contains("--chat"))
    let chat = try Program([
      "model", "generate", model, "--chat", "--prompt", question, "--max-tokens", "12",
    ])
    #expect(chat.output.contains { $0.isLetter }, "\(chat.output)")
    #expect(!chat.errors.contains("at once"))
  }

  @Test("a file without a chat template refuses --chat, and inspect shows whether there is one")
  func template() throws {
    let plain = Paths.root.appending(
      path: "Tests/LanguageModelTests/Fixtures/models/llama2.gguf"
    ).path
    let refused = try Program(["model", "generate", plain, "--chat", "--prompt", "x"])
    #expect(refused.status == 1 && refused.errors.contains("no chat template"), "\(refused.errors)")
    #expect(
      try Program(["model", "inspect", model, "-o", "json"]).object()["chat_template"] as? String
        == "ChatML")
    #expect(try Program(["model", "inspect", model]).output.contains("chat template"))
  }
}
