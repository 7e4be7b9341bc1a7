import Foundation
import JSON
import TestSupport
import Testing

@testable import Evaluation
@testable import Personalization

/// That nothing of one user can reach another: every text of a user holds words that only they
/// have.
@Suite struct LeakTests {
  static let users = (0..<24).map { "user\($0)" }

  /// A user's history for a task. All share the words by which retrieval would find the others'
  /// items.
  func history(_ user: String, _ task: TaskDefinition, count: Int = 24) -> [HistoryItem] {
    (0..<count).map { number in
      var input: [String: JSONValue] = [:]
      for field in task.fields {
        input[field.name] = .string("shared words of all \(number % 5) only\(user) \(field.name)")
      }
      // A label names no user, so each has a favourite of their own.
      let favourite = Self.users.firstIndex(of: user) ?? 0
      let own = task.answers.map { $0[favourite % $0.count] }
      return HistoryItem(
        eventID: "\(user)-\(number)", occurredAt: Date(timeIntervalSince1970: Double(number)),
        input: input, output: own ?? "said only\(user) again")
    }
  }

  /// The users whose markers stand in a text: "onlyuser7", or "user7-" as event ids begin.
  func owners(_ text: String) -> Set<String> {
    let bytes = Array(text.lowercased().utf8)
    let (name, only) = (Array("user".utf8), Array("only".utf8))
    var found: Set<String> = []
    var place = 0
    while place + name.count < bytes.count {
      guard bytes[place] == name[0], bytes[place..<place + name.count].elementsEqual(name) else {
        place += 1
        continue
      }
      let start = place
      place += name.count
      let digits = place
      while place < bytes.count, (48...57).contains(bytes[place]) { place += 1 }
      let isMarked =
        bytes[..<start].suffix(only.count).elementsEqual(only)
        || (place < bytes.count && bytes[place] == UInt8(ascii: "-"))
      if place > digits, isMarked {
        found.insert(String(decoding: bytes[start..<place], as: UTF8.self))
      }
    }
    return found
  }

  @Test(
    "no marker of another user reaches a training set, a profile, a retrieval or a prompt",
    arguments: TaskCatalogue.builtIn.names, RetrievalMethod.allCases)
  func isolation(name: String, method: RetrievalMethod) throws {
    let users = Self.users.prefix(8)
    let task = try TaskCatalogue.builtIn.task(named: name)
    let prompts = PromptBuilder(
      task: task, variant: PromptVariant(retrieve: 4, profile: true), maximumTokens: 2_000,
      countTokens: countWords)
    var settings = TrainingSetSettings()
    settings.retrieval = method
    // One builder for all users, as a trainer may have, and sets built in two orders.
    let builder = TrainingSetBuilder(prompts: prompts, settings: settings)
    let sets = try users.map { try builder.build(history: history($0, task)) }
    var marked = 0
    for (number, user) in users.enumerated().reversed() {
      let own = history(user, task)
      let set = try builder.build(history: own)
      #expect(set == sets[number], "a set does not depend on the sets before it")
      for example in set.training + set.heldOut {
        let found = owners(example.prompt + example.completion + " \(example.eventID) ")
          .union(owners(example.retrieved.map { "\($0) " }.joined()))
        #expect(found == [user])
        marked += 1
      }
      let retrieved = HistoryRetriever(task: task, items: own, method: method)
        .retrieve(history("user0", task)[7].input, k: 6)
      #expect(retrieved.count == 6)
      #expect(retrieved.allSatisfy { owners("\($0.eventID) \(task.historyLine($0))") == [user] })
      let profile = try #require(ComputedProfile.text(for: own, task: task))
      #expect(owners("\(profile) ").isSubset(of: [user]))
      let asked = try #require(
        ModelProfile.prompt(
          for: own, task: task, maximumTokens: 2_000, countTokens: countWords))
      #expect(owners(asked).isSubset(of: [user]))
      let prompt = try prompts.build(
        input: own[3].input, retrieved: retrieved, profile: profile)
      #expect(owners(prompt.text) == [user])
    }
    #expect(marked == 8 * 24)
  }

  @Test("users read from one file have only what is theirs, choices included")
  func files() throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("leak-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var questions: [JSONValue] = []
    var golds: [JSONValue] = []
    var others: [JSONValue] = []
    for (number, user) in Self.users.enumerated() {
      let profile = JSONValue.array(
        (0..<12).map { item in
          // Item ids are each user's own count, as in some of LaMP's files.
          [
            "id": .number(Double(item)), "title": .string("shared only\(user)"),
            "citation": .string("cited \(item) only\(user)"),
          ]
        })
      let input = JSONValue.string(
        "written the paper with the title \"T only\(user)\", which [1]: \"A only\(user)\" "
          + "[2]: \"B only\(user)\"")
      if number < 12 {
        questions.append(
          [
            "id": .string("q\(number)"), "user_id": .string(user), "input": input,
            "profile": profile,
          ])
        golds.append(["id": .string("q\(number)"), "output": "[1]"])
      } else {
        others.append([
          "user_id": .string(user), "profile": profile,
          "query": [["id": .string("q\(number)"), "input": input, "gold": "[2]"]],
        ])
      }
    }
    for (file, value) in [
      ("questions.json", JSONValue.array(questions)), ("others.json", .array(others)),
      ("outputs.json", ["task": "LaMP_1", "golds": .array(golds)]),
    ] {
      try Data(value.canonical.utf8).write(to: folder.appendingPathComponent(file))
    }
    let data = try LaMPDataset(
      folder: folder.path, task: TaskCatalogue.builtIn.task(named: "LaMP_1"))
    #expect(data.users.count == 12 && data.others.count == 12 && data.notes.isEmpty)
    for user in data.users + data.others {
      #expect(user.history.count == 11)
      for item in user.history {
        #expect(owners(JSONValue.object(item.input).canonical) == [user.id])
      }
      for query in user.queries {
        #expect(owners(JSONValue.object(query.input).canonical) == [user.id])
      }
    }
    try LaMPUser.requireDisjoint(evaluated: data.users, others: data.others)
  }

  @Test("a user, a query or an event on both sides of an evaluation stops it by name")
  func disjoint() throws {
    func user(_ id: String, item: String, query: String, text: String = "t") -> LaMPUser {
      LaMPUser(
        id: id,
        history: [
          HistoryItem(
            eventID: item, occurredAt: .distantPast, input: ["film": .string(text)], output: "sad")
        ], queries: [LaMPQuery(id: query, input: ["film": .string(text)], gold: "sad")])
    }
    let target = user("a", item: "1", query: "2")
    func refusal(_ other: LaMPUser) -> String? {
      do {
        try LaMPUser.requireDisjoint(evaluated: [target], others: [other])
        return nil
      } catch {
        return "\(error)"
      }
    }
    #expect(refusal(user("b", item: "3", query: "4")) == nil)
    #expect(refusal(user("b", item: "1", query: "2", text: "other")) == nil)
    #expect(
      refusal(user("a", item: "3", query: "4"))
        == "the task adapter must never have seen the users that are evaluated, but these users are "
        + "on both sides: a; take them out of others.json")
    #expect(
      refusal(user("b", item: "3", query: "2"))?.contains("these queries are on both sides: 2")
        == true)
    #expect(
      refusal(user("b", item: "1", query: "4"))?.contains("these events are on both sides: 1")
        == true)
    // A target's question among another user's events.
    #expect(refusal(user("b", item: "2", query: "4"))?.contains("these events") == true)
    let many = (0..<9).map { user("u\($0)", item: "i\($0)", query: "q\($0)") }
    #expect {
      try LaMPUser.requireDisjoint(evaluated: many, others: many)
    } throws: {
      "\($0)".contains("u0, u1, u2, u3, u4, … (9 in all)")
    }
  }
}
