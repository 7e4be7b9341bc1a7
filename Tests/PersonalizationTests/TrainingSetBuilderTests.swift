import Foundation
import TestSupport
import Testing

@testable import Personalization

@Suite struct TrainingSetBuilderTests {
  let task: TaskDefinition

  init() throws { task = try TaskCatalogue.builtIn.task(named: "film_tag") }

  func builder(
    _ variant: PromptVariant = .plain, _ change: (inout TrainingSetSettings) -> Void = { _ in }
  ) -> TrainingSetBuilder {
    var settings = TrainingSetSettings()
    change(&settings)
    return TrainingSetBuilder(
      prompts: PromptBuilder(
        task: task, variant: variant, maximumTokens: 400, countTokens: countWords),
      settings: settings)
  }

  func position(_ example: TrainingText) -> Int {
    Int(example.eventID.split(separator: "-").last ?? "") ?? -1
  }

  @Test("a first set trains on the older part and holds the newest fifth out")
  func first() throws {
    let set = try builder().build(history: items(24))
    #expect(set.training.map(position) == Array(0..<19))
    #expect(set.heldOut.map(position) == Array(19..<24))
    #expect(set.trainedThrough == 19)
    #expect(set.training[3].prompt == "Film: film 3 of u\nTag:")
    #expect(set.training[3].completion == " funny")
    #expect(set.training.filter(\.isReplay).isEmpty)
  }

  @Test("short histories hold nothing out, long ones a bounded number")
  func heldOutSizes() throws {
    for (history, expected) in [(0, 0), (1, 0), (7, 0), (8, 3), (15, 3), (30, 6), (400, 32)] {
      let set = try builder().build(history: items(history))
      #expect(set.heldOut.count == expected, "of \(history)")
      #expect(set.training.count == history - expected)
    }
  }

  @Test("a later set has every new event and a seeded, newer-leaning sample of the old ones")
  func incremental() throws {
    let set = try builder { $0.replay = 40 }.build(history: items(300), trainedThrough: 280)
    #expect(set.heldOut.map(position) == Array(296..<300))
    #expect(set.training.filter { !$0.isReplay }.map(position) == Array(280..<296))
    let replayed = set.training.filter(\.isReplay).map(position)
    #expect(replayed.count == 40 && Set(replayed).count == 40)
    let newest = replayed.filter { $0 >= 180 }.count
    #expect(newest > 30, "\(newest) of 40 come from the newest 100 of 280")
    #expect(set.training.map(position) == set.training.map(position).sorted())
    let again = try builder { $0.replay = 40 }.build(history: items(300), trainedThrough: 280)
    #expect(again == set)
    let other = try builder {
      $0.replay = 40
      $0.seed = 2
    }.build(history: items(300), trainedThrough: 280)
    #expect(other != set)
  }

  @Test("what a parent held out is new to its child")
  func heldOutLater() throws {
    let first = try builder().build(history: items(24))
    let second = try builder().build(history: items(34), trainedThrough: first.trainedThrough)
    let new = second.training.filter { !$0.isReplay }.map(position)
    #expect(new == Array(19..<31))
  }

  @Test("after a shift only a few older events are trained on and none is held out")
  func shift() throws {
    let set = try builder(PromptVariant(retrieve: 3)).build(
      history: items(34), trainedThrough: 19, changedAt: 24)
    let before = set.training.filter { position($0) < 24 }
    #expect(before.count == 4)
    #expect(set.training.map(position).suffix(7) == [24, 25, 26, 27, 28, 29, 30])
    #expect(set.heldOut.map(position) == [31, 32, 33])
    for example in set.training + set.heldOut where position(example) >= 24 {
      for id in example.retrieved {
        #expect((Int(id.split(separator: "-").last ?? "") ?? 0) >= 24)
      }
    }
  }

  @Test("a shift in what the parent has learnt still replays what came after it")
  func earlyShift() throws {
    let set = try builder().build(history: items(40), trainedThrough: 30, changedAt: 20)
    #expect(set.training.filter { position($0) < 20 }.count == 4)
    #expect(
      set.training.filter { (20..<30).contains(position($0)) }.map(\.isReplay)
        == Array(repeating: true, count: 10))
  }

  @Test("no example finds itself or anything newer, in items or in the profile")
  func earlierOnly() throws {
    let set = try builder(PromptVariant(retrieve: 4, profile: true)).build(history: items(40))
    #expect(set.training[0].retrieved.isEmpty)
    #expect(set.training[0].prompt == "Film: film 0 of u\nTag:")
    for example in set.training + set.heldOut {
      let own = position(example)
      #expect(example.retrieved.count == min(4, own))
      #expect(
        example.retrieved.allSatisfy {
          (Int($0.split(separator: "-").last ?? "") ?? .max) < own
        })
    }
    // Only the second label has occurred before the third event.
    #expect(set.training[1].prompt.hasPrefix("This user's usual answers: funny (100%).\n"))
  }

  @Test("an item without an input retrieves by its own words, which stay out of its prompt")
  func withoutInput() throws {
    let tweets = try TaskCatalogue.builtIn.task(named: "LaMP_7")
    let texts = ["rain again", "sun and sea", "snow", "more rain today"]
    let past = texts.enumerated().map {
      HistoryItem(eventID: "\($0)", occurredAt: .distantPast, input: [:], output: $1)
    }
    let set = try TrainingSetBuilder(
      prompts: PromptBuilder(
        task: tweets, variant: PromptVariant(retrieve: 1), maximumTokens: 100,
        countTokens: countWords)
    ).build(history: past)
    #expect(set.training[3].retrieved == ["0"])
    #expect(set.training[3].prompt == "Tweet: rain again\n\nTweet:")
  }

  @Test("positions outside the history are brought inside")
  func hostilePositions() throws {
    let all = try builder().build(history: items(10), trainedThrough: 99, changedAt: -5)
    #expect(all.heldOut.isEmpty && all.training.filter(\.isReplay).count == 10)
    let late = try builder().build(history: items(10), trainedThrough: -1, changedAt: 99)
    #expect(late.heldOut.isEmpty && late.training.count == 4)
  }

  @Test(
    "no other user's text reaches a user's set, whatever was built before with the same builder")
  func isolation() throws {
    let builder = builder(PromptVariant(retrieve: 4, profile: true))
    // Same words for everyone, so that retrieval would find the others if it could.
    let users = ["ada", "bo", "cy", "di"]
    let alone = try users.map { try builder.build(history: items(30, user: $0)) }
    for (number, user) in users.enumerated().reversed() {
      let set = try builder.build(history: items(30, user: user), trainedThrough: 0)
      #expect(set == alone[number], "the same as when built first")
      let own = Set(items(30, user: user).map(\.eventID))
      for example in set.training + set.heldOut {
        #expect(own.contains(example.eventID) && own.isSuperset(of: example.retrieved))
        for other in users where other != user {
          #expect(!example.prompt.contains(other) && !example.completion.contains(other))
        }
      }
    }
  }
}
