// Chat templates of well-known models and what they make of one question. The prompts are what
// jinja2 makes of the templates, as transformers calls it.

import Foundation
import Testing

@testable import LanguageModel

@Suite("Chat templates")
struct ChatTemplateTests {
  static let smollm = """
    {% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
    You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
    ' }}{% endif %}{{'<|im_start|>' + message['role'] + '
    ' + message['content'] + '<|im_end|>' + '
    '}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
    ' }}{% endif %}
    """
  static let qwen = #"""
    {%- if tools %}{{- '<|im_start|>system\n' }}{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}{{- '<|im_end|>\n' }}{%- else %}{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}{%- endif %}{%- endif %}{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
    """#
  static let llama3 = #"""
    {% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
    """#
  static let llama2 = #"""
    {% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}{% elif message['role'] == 'system' %}{{ '<<SYS>>\n' + message['content'] + '\n<</SYS>>\n\n' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}
    """#
  static let mistral3 = #"""
    {{- bos_token }}{%- if tools is not none %}{{- "[AVAILABLE_TOOLS] [" }}{%- endif %}{%- for message in messages %}{%- if message['role'] == 'user' %}{{- "[INST] " + message['content'] + "[/INST]" }}{%- endif %}{%- endfor %}
    """#
  static let tekken = #"""
    {{- bos_token }}{%- if tools is not none %}{{- "[AVAILABLE_TOOLS][" }}{%- endif %}{%- for message in messages %}{%- if message['role'] == 'user' %}{{- "[INST]" + message['content'] + "[/INST]" }}{%- endif %}{%- endfor %}
    """#
  static let zephyr = #"""
    {% for message in messages %}
    {% if message['role'] == 'user' %}
    {{ '<|user|>
    ' + message['content'] + eos_token }}
    {% elif message['role'] == 'system' %}
    {{ '<|system|>
    ' + message['content'] + eos_token }}
    {% endif %}
    {% if loop.last and add_generation_prompt %}
    {{ '<|assistant|>' }}
    {% endif %}
    {% endfor %}
    """#

  @Test(
    "a question stands in the file's template as the model was trained on it",
    arguments: [
      (
        smollm, "ChatML",
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
          + "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
      ),
      (
        qwen, "ChatML",
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
          + "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
      ),
      (
        llama3, "Llama 3",
        "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
          + "<|start_header_id|>assistant<|end_header_id|>\n\n"
      ), (llama2, "Llama 2", "[INST] Who? [/INST]"), (mistral3, "Mistral", "[INST] Who?[/INST]"),
      (tekken, "Mistral", "[INST]Who?[/INST]"),
      (zephyr, "Zephyr", "<|user|>\nWho?</s>\n<|assistant|>\n"),
    ])
  func forms(template: String, name: String, prompt: String) throws {
    let found = try #require(ChatTemplate(template))
    #expect(found.name == name)
    #expect(found.prompt("Who?", endOfText: "</s>") == prompt)
  }

  @Test("a template of no known form is refused by name, and so is a file without one")
  func unknown() throws {
    #expect(ChatTemplate("{% for m in messages %}<start_of_turn>{{ m.role }}{% endfor %}") == nil)
    var model = TinyLlama()
    func encode() throws -> [Int32] { try model.load().tokenizer.encodeChat("Who?") }
    #expect(throws: ChatTemplateError.self) { try encode() }
    model.builder.set("tokenizer.chat_template", .string("<start_of_turn>"))
    do {
      _ = try encode()
      Issue.record("taken")
    } catch let error as ChatTemplateError {
      #expect(error.description.contains("ChatML, Llama 2, Llama 3, Mistral"))
    }
    model.builder.set("tokenizer.chat_template", .string(Self.llama2))
    let tokens = try encode()
    let tokenizer = try model.load().tokenizer
    #expect(tokens.first == tokenizer.bos, "the template writes it, this tokenizer does not")
    #expect(Array(tokens.dropFirst()) == tokenizer.encode("[INST] Who? [/INST]"))
  }

  @Test("the default model's template is read from its file")
  func defaultModel() throws {
    let tokenizer = try TestModel.shared.get().tokenizer
    let template = try #require(tokenizer.chatTemplate.flatMap(ChatTemplate.init))
    #expect(
      template
        == .chatML(
          system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face"))
    let tokens = try tokenizer.encodeChat("Who?")
    #expect(tokenizer.decode(tokens).hasSuffix("user\nWho?<|im_end|>\n<|im_start|>assistant\n"))
    #expect(tokens.filter(tokenizer.isSpecial).count == 5)
  }
}
