// `model generate`: a continuation of a prompt, as it is written.

import ArgumentParsing
import Foundation
import LanguageModel
import Worker

struct ModelGenerate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Continue a prompt.",
    discussion: "The text goes to stdout as it comes; tokens per second go to stderr.")

  @OptionGroup var arguments: ModelArguments
  @Option(name: .long, help: "The prompt. Without one, stdin is read.") var prompt: String?
  @Flag(
    name: .long,
    help: "Take the prompt as a message to an instruct model, in the file's chat template.")
  var chat = false
  @Option(name: .long, help: "Tokens at most.") var maxTokens = 64
  @Option(name: .long, help: "0 is greedy; higher is more varied.") var temperature: Float = 0
  @Option(name: .long, help: "Choose among the k likeliest tokens (0: all).") var topK = 0
  @Option(name: .long, help: "Choose among the likeliest tokens of this total probability.")
  var topP: Float = 1
  @Option(name: .long, help: "Seed of the choice.") var seed: UInt64 = 0

  func run() async throws {
    try await Failure.explain {
      let prompt = try prompt ?? TextInput.standardInput()
      let (result, hasTemplate) = try await ComputeQueue("model").run { [self] in
        let (model, adapter) = try arguments.load()
        let request = GenerationRequest(
          prompt: try chat ? model.tokenizer.encodeChat(prompt) : model.tokenizer.encode(prompt),
          maxTokens: maxTokens,
          sampling: SamplingOptions(
            temperature: temperature, topK: topK, topP: topP, seed: seed),
          stopTokens: model.tokenizer.stopTokens, adapter: adapter)
        var decoder = Tokenizer.StreamDecoder(model.tokenizer)
        let result = try model.generate(
          [request],
          onToken: { _, token in
            FileHandle.standardOutput.write(Data(decoder.append(token).utf8))
            return true
          }
        ).first
        FileHandle.standardOutput.write(Data(decoder.finish().utf8))
        return (result, model.tokenizer.chatTemplate != nil)
      }
      print("")
      if let result {
        if result.tokens.isEmpty, result.finishReason == .stop {
          Failure.say(
            "the model ended its text at once"
              + (hasTemplate && !chat
                ? ": it is an instruct model, which answers in its chat template; try --chat" : ""))
        }
        let rate = Double(result.tokens.count) / max(result.decodeSeconds, 1e-9)
        Failure.say(
          String(
            format: "%d tokens, %.1f tokens/s, prompt %.2f s", result.tokens.count, rate,
            result.prefillSeconds))
      }
    }
  }
}
