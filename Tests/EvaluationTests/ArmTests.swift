// Names of arms, and single settings by their path.

import Evaluation
import EvaluationReport
import OPPU
import Personalization
import Testing

@Suite("Arms and settings")
struct ArmTests {
  @Test("An arm's name says with which adapters and with what in its prompts queries are answered")
  func names() throws {
    let expected: [(String, Arm.Source, String)] = [
      ("base", .model(.base, .plain), "base"),
      ("rag-2", .model(.base, PromptVariant(retrieve: 2)), "RAG 2"),
      ("rag", .model(.base, PromptVariant(retrieve: 4)), "RAG 4"),
      ("task+pag", .model(.task, PromptVariant(profile: true)), "task + PAG"),
      (
        "oppu+rag-1+pag", .model(.user, PromptVariant(retrieve: 1, profile: true)),
        "OPPU + RAG 1 + PAG"
      ),
      ("all", .model(.user, PromptVariant(retrieve: 4, profile: true)), "OPPU + RAG 4 + PAG"),
      ("majority", .majority, "user's commonest"),
      ("nearest-5", .nearest(5), "user's 5 nearest"),
    ]
    for (name, source, title) in expected {
      let arm = try Arm(name, retrieve: 4)
      #expect(arm.source == source, "\(name)")
      #expect(arm.title == title)
    }
  }

  @Test(
    "A name that means nothing is refused with a sentence that lists what there is",
    arguments: [
      "", "rag-0", "rag-x", "rag-65", "nearest-", "oppu+oppu", "pag+pag", "base+", "all+pag",
      "peft",
    ])
  func refusedNames(_ name: String) {
    let error = #expect(throws: UnknownArmError.self) { try Arm(name, retrieve: 4) }
    #expect(error?.description.contains("task+rag-4") == true)
  }

  @Test("Only arms on the base model count as prompt-based")
  func families() throws {
    let families = try Arm.usual.map { try Arm($0, retrieve: 4) }.map { ($0.name, $0.family) }
    let prompts = families.filter { $0.1 == .prompt }.map(\.0)
    #expect(prompts == ["base", "rag-1", "rag-4", "pag", "rag-4+pag"])
  }

  @Test("A setting is changed by its path, and nothing else is")
  func overrides() throws {
    let settings = try MethodSettings.preset("default")
    let changed = try settings.setting("user.training.learningRate", to: "0.5")
    #expect(changed.user.training.learningRate == 0.5)
    var back = changed
    back.user.training.learningRate = settings.user.training.learningRate
    #expect(back == settings)
    #expect(
      try settings.setting("examples.retrieval", to: "recency").examples.retrieval == .recency)
  }

  @Test("A setting that does not exist, or cannot have a value, is refused by name")
  func refusedSettings() throws {
    let settings = try MethodSettings.preset("default")
    let unknown = #expect(throws: SettingPathError.self) {
      try settings.setting("user.training.learning_rate", to: "1")
    }
    #expect(unknown?.description.contains("learningRate") == true)
    let wrong = #expect(throws: SettingPathError.self) {
      try settings.setting("cutoff", to: "long")
    }
    #expect(wrong?.description == "setting cutoff: cannot be long")
    #expect(throws: UnknownPresetError.self) { try MethodSettings.preset("best") }
  }
}
