// The conversation that an instruct model was trained on, around one question.

import Foundation

/// A model file's chat template, recognised by what it writes (as llama.cpp does): templates are
/// programs, and those of the architectures known here write one of a few forms.
public enum ChatTemplate: Sendable, Equatable {
  /// `<|im_start|>user…<|im_end|>`, with the system's message that the template begins with by itself.
  case chatML(system: String?)
  /// `[INST] … [/INST]`: Llama 2, and Mistral up to 0.2.
  case llama2
  /// `<|start_header_id|>user<|end_header_id|>…<|eot_id|>`
  case llama3
  /// `[INST] …[/INST]`, with no blanks around the text in the form for Mistral's newer tokenizer.
  case mistral(blanks: Bool)
  /// `<|user|>…`, the end of text, `<|assistant|>`
  case zephyr
  /// `<|user|>…<|end|><|assistant|>`
  case phi3

  /// Nil for a template of no form that is known here.
  public init?(_ template: String) {
    func has(_ text: String) -> Bool { template.contains(text) }
    if has("<|im_start|>") && !has("<|im_sep|>") && !has("<end_of_utterance>") {
      self = .chatML(system: Self.defaultSystem(template))
    } else if has("<|start_header_id|>") && has("<|end_header_id|>") {
      self = .llama3
    } else if has("[INST]") {
      let isMistral = has("[SYSTEM_PROMPT]") || has("[AVAILABLE_TOOLS]")
      self =
        isMistral
        ? .mistral(blanks: has("[INST] ") && !has("\"[INST]\"") && !has("'[INST]'")) : .llama2
    } else if has("<|user|>") && has("<|assistant|>") && has("<|end|>") {
      self = .phi3
    } else if has("<|user|>") && has("<|assistant|>") && (has("eos_token") || has("</s>")) {
      self = .zephyr
    } else {
      return nil
    }
  }

  /// The form's name, for people.
  public var name: String {
    switch self {
    case .chatML: "ChatML"
    case .llama2: "Llama 2"
    case .llama3: "Llama 3"
    case .mistral: "Mistral"
    case .zephyr: "Zephyr"
    case .phi3: "Phi 3"
    }
  }

  /// The templates that are known, for messages about one that is not.
  public static let known = "ChatML, Llama 2, Llama 3, Mistral, Zephyr and Phi 3"

  /// What stands before the model's answer to one message. A beginning of text is the tokenizer's.
  /// - Parameter end: the name of the tokenizer's end of text.
  public func prompt(_ message: String, endOfText end: String) -> String {
    switch self {
    case .chatML(let system):
      (system.map { "<|im_start|>system\n\($0)<|im_end|>\n" } ?? "")
        + "<|im_start|>user\n\(message)<|im_end|>\n<|im_start|>assistant\n"
    case .llama2: "[INST] \(message) [/INST]"
    case .llama3:
      "<|start_header_id|>user<|end_header_id|>\n\n\(message)<|eot_id|>"
        + "<|start_header_id|>assistant<|end_header_id|>\n\n"
    case .mistral(let blanks): blanks ? "[INST] \(message)[/INST]" : "[INST]\(message)[/INST]"
    case .zephyr: "<|user|>\n\(message)\(end)\n<|assistant|>\n"
    case .phi3: "<|user|>\n\(message)<|end|>\n<|assistant|>\n"
    }
  }

  /// The system's message that a ChatML template writes where a conversation has none: the one that
  /// stands in it as a plain text.
  private static func defaultSystem(_ template: String) -> String? {
    var rest = template[...]
    while let start = rest.range(of: "<|im_start|>system") {
      rest = rest[start.upperBound...]
      guard let end = rest.range(of: "<|im_end|>") else { return nil }
      var text = rest[..<end.lowerBound]
      if !text.contains("'"), !text.contains("\""), !text.contains("{") {
        for newline in ["\\n", "\n"] where text.hasPrefix(newline) {
          text = text.dropFirst(newline.count)
          return String(text.replacing("\\n", with: "\n"))
        }
      }
    }
    return nil
  }
}

extension Tokenizer {
  /// The tokens of a message in the file's chat template, up to where the model answers.
  /// - Throws: ``ChatTemplateError``.
  public func encodeChat(_ message: String) throws(ChatTemplateError) -> [Int32] {
    guard let chatTemplate else {
      throw ChatTemplateError("the model's file has no chat template; it continues plain text")
    }
    guard let template = ChatTemplate(chatTemplate) else {
      throw ChatTemplateError(
        "the model's chat template is of none of the forms known here (\(ChatTemplate.known)); "
          + "write the conversation out in the prompt")
    }
    let end = decode([eos])
    var tokens = encode(template.prompt(message, endOfText: end))
    // A template that writes the beginning of text itself is for a tokenizer that adds none.
    if beginning == nil, let bos, chatTemplate.contains("bos_token") { tokens.insert(bos, at: 0) }
    return tokens
  }
}

/// Why a message cannot be put into a chat template.
public struct ChatTemplateError: Error, Equatable, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}
