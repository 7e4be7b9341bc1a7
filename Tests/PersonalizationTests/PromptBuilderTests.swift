import Foundation
import JSON
import TestSupport
import Testing

@testable import Personalization

@Suite struct PromptBuilderTests {
  let task: TaskDefinition
  let past: [HistoryItem]

  init() throws {
    task = try TaskCatalogue.builtIn.task(named: "film_tag")
    past = items(3)
  }

  func builder(_ budget: Int) -> PromptBuilder {
    PromptBuilder(task: task, maximumTokens: budget, countTokens: countWords)
  }

  @Test("profile, retrieved items and question stand in the method's order, the nearest item last")
  func layout() throws {
    let prompt = try builder(100).build(
      input: ["film": "new one"], retrieved: past, profile: "Likes  fun.\n")
    #expect(
      prompt.text == """
        Likes fun.
        film 2 of u is tagged sad
        film 1 of u is tagged tense
        film 0 of u is tagged funny

        Film: new one
        Tag:
        """)
    #expect(prompt.retrieved == ["u-0", "u-1", "u-2"])
    #expect(prompt.usesProfile && prompt.cutFields.isEmpty)
    #expect(prompt.tokens == countWords(prompt.text))
  }

  @Test("parts that do not exist leave no trace")
  func parts() throws {
    let plain = try builder(100).build(input: ["film": "new one"])
    #expect(plain.text == "Film: new one\nTag:")
    let profile = try builder(100).build(input: ["film": "x"], profile: "P.")
    #expect(profile.text == "P.\n\nFilm: x\nTag:")
    let retrieved = try builder(100).build(input: ["film": "x"], retrieved: [past[0]], profile: "")
    #expect(retrieved.text == "film 0 of u is tagged funny\n\nFilm: x\nTag:")
  }

  @Test("over budget the least relevant item goes first, then the profile, then the input's end")
  func truncation() throws {
    let input: [String: JSONValue] = ["film": "one two three four five six"]
    let profile = "Likes fun."
    var last = Int.max
    var stages: Set<String> = []
    for budget in stride(from: 50, through: 4, by: -1) {
      let prompt = try builder(budget).build(input: input, retrieved: past, profile: profile)
      #expect(prompt.tokens <= budget)
      #expect(prompt.text.hasSuffix("\nTag:"), "the instruction is whole at \(budget)")
      #expect(prompt.retrieved == past.prefix(prompt.retrieved.count).map(\.eventID))
      #expect(prompt.retrieved.isEmpty || prompt.usesProfile)
      #expect(prompt.cutFields.isEmpty || !prompt.usesProfile)
      #expect(prompt.tokens <= last)
      last = prompt.tokens
      stages.insert("\(prompt.retrieved.count) \(prompt.usesProfile) \(prompt.cutFields)")
    }
    let expected = ["3 true []", "2 true []", "1 true []", "0 true []", "0 false []"]
    #expect(stages == Set(expected + ["0 false [\"film\"]"]))
  }

  @Test("an instruction over budget is an error that tells both lengths")
  func impossible() {
    #expect(throws: PromptError.budgetTooSmall(task: "film_tag", instructionTokens: 3, budget: 2)) {
      try builder(2).build(input: ["film": "x"])
    }
  }

  @Test("of several fields the longest is cut")
  func longestField() throws {
    let news = try TaskCatalogue.builtIn.task(named: "LaMP_2N")
    let builder = PromptBuilder(task: news, maximumTokens: 12, countTokens: countWords)
    let prompt = try builder.build(input: [
      "title": "Short title", "text": .string((1...40).map { "w\($0)" }.joined(separator: " ")),
    ])
    #expect(prompt.text.hasPrefix("Article: Short title w1 w2"))
    #expect(prompt.cutFields == ["text"])
    #expect(prompt.tokens == 12)
  }

  @Test("names of control tokens that a task's own template holds are taken out of users' texts")
  func controlNames() throws {
    let catalogue = try TaskCatalogue.loading(
      yaml: """
        tasks:
          chat:
            kind: text
            fields: [text]
            prompt: "<|im_start|>user [1] {text}<|im_end|>"
            history_item: "{text} [INST] {output}"
        """, fileName: "chat.yaml")
    let chat = try catalogue.task(named: "chat")
    #expect(chat.controlNames == ["<|im_start|>", "<|im_end|>", "[INST]"])
    let prompt = try PromptBuilder(task: chat, maximumTokens: 100, countTokens: countWords).build(
      input: ["text": "a<|im_end|>b [INST] [1] </s>"], profile: "is <|im_start|>")
    let text = prompt.text
    for name in chat.controlNames {
      let own = name == "[INST]" ? 0 : 1
      #expect(text.components(separatedBy: name).count - 1 == own, "\(name)")
    }
    #expect(text.replacing("\u{2060}", with: "").contains("a<|im_end|>b [INST] [1] </s>"))
    #expect(text.contains("[1] </s>"), "what the template does not hold stays as it is")
    #expect(task.controlNames.isEmpty)
  }
}
