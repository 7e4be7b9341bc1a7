import Foundation
import RandomNumbers
import TestSupport
import Testing

@testable import Personalization

@Suite struct ProfileTests {
  func task(_ name: String) throws -> TaskDefinition {
    let path = Paths.root.appendingPathComponent("examples/real-events.tasks.yaml").path
    return try TaskCatalogue.builtIn.merging(.loading(path: path)).task(named: name)
  }

  func history(_ pairs: [(input: String, output: String)], field: String = "text") -> [HistoryItem]
  {
    pairs.enumerated().map { number, pair in
      HistoryItem(
        eventID: "e\(number)", occurredAt: Date(timeIntervalSince1970: Double(number)),
        input: [field: .string(pair.input)], output: pair.output)
    }
  }

  @Test("labels are told with their shares, and a new habit beside the old")
  func labels() throws {
    let tag = try task("film_tag")
    #expect(
      ComputedProfile.text(for: items(4), task: tag)
        == "This user's usual answers: funny (50%), sad (25%), tense (25%).")
    #expect(ComputedProfile.text(for: items(0), task: tag) == nil)
    let moved = history((0..<24).map { ("x", $0 < 16 ? "funny" : "sad") }, field: "film")
    #expect(
      ComputedProfile.text(for: moved, task: tag)
        == "This user's usual answers: funny (67%), sad (33%). Lately mostly sad.")
  }

  @Test("ratings are told with the words that raise and lower them")
  func ratings() throws {
    let films = (0..<24).map { number in
      let genre = ["Drama, War", "Comedy", "Action"][number % 3]
      return ("Film \(number) (1999), genres: \(genre)", ["5", "3", "1"][number % 3])
    }
    #expect(
      ComputedProfile.text(for: history(films), task: try task("movielens_rating"))
        == "This user's mean rating is 3, most often 1 (33%). Higher: drama, war. Lower: action.")
    let few = history([("a", "5"), ("b", "5"), ("c", "3")])
    #expect(
      ComputedProfile.text(for: few, task: try task("LaMP_3"))
        == "This user's mean rating is 4.3, most often 5 (67%).")
  }

  @Test("texts are told by length, capitals, punctuation and favourite words")
  func style() throws {
    func text(_ outputs: [String]) throws -> String? {
      ComputedProfile.text(for: history(outputs.map { ("x", $0) }), task: try task("LaMP_4"))
    }
    let titles = (0..<12).map { "Neural Parsing: Some \($0) Large Results about Trees" }
    #expect(
      try text(titles)
        == "This user writes 8 words, Capitalising Words, often with a colon and numbers. "
        + "Favourite words: Large, Neural, Parsing, Results, Trees.")
    let lower = ["so tired today!", "what a day!", "no idea why", "yes!"]
    #expect(
      try text(lower)
        == "This user writes 1 to 3 words, in lower case, often with an exclamation mark.")
    #expect(try text(["d"]) == "This user writes 1 word, in lower case.")
    #expect(try text(["", " "]) == nil)
  }

  @Test("choices between texts are told by the words that were chosen")
  func choices() throws {
    let items = (0..<6).map { number in
      HistoryItem(
        eventID: "\(number)", occurredAt: .distantPast,
        input: [
          "title": "t", "option_1": .string(number % 2 == 0 ? "On Parsing" : "Other things"),
          "option_2": .string(number % 2 == 0 ? "Other things" : "On Parsing"),
        ], output: number % 2 == 0 ? "[1]" : "[2]")
    }
    #expect(
      ComputedProfile.text(for: items, task: try task("LaMP_1"))
        == "Words of this user's choices: Parsing.")
  }

  @Test("a profile is short and the same every time, whatever the texts")
  func bounded() throws {
    var generator = SplitMix64(seed: 4)
    for name in ["film_tag", "movielens_rating", "LaMP_4"] {
      let task = try task(name)
      let items = (0..<300).map { number in
        let words = (0..<40).map { _ in "word\(Int.random(in: 0..<60, using: &generator))" }.joined(
          separator: " ")
        let output = task.answers?.randomElement(using: &generator) ?? words
        return HistoryItem(
          eventID: "\(number)", occurredAt: .distantPast,
          input: [task.fields[0].name: .string(words)], output: output)
      }
      let text = try #require(ComputedProfile.text(for: items, task: task))
      #expect(text.count < 240, "\(text)")
      #expect(ComputedProfile.text(for: items, task: task) == text)
    }
  }

  @Test("the model is shown as many of the newest items as fit, and the words of the kind")
  func modelPrompt() throws {
    let tag = try task("film_tag")
    func prompt(_ budget: Int) -> String? {
      ModelProfile.prompt(for: items(30), task: tag, maximumTokens: budget, countTokens: countWords)
    }
    let whole = try #require(prompt(1_000))
    #expect(whole.contains("- film 0 of u is tagged funny\n- film 1 of u is tagged tense\n"))
    #expect(whole.hasSuffix("how they usually decide: This user"))
    let some = try #require(prompt(80))
    #expect(countWords(some) <= 80 && !some.contains("film 0 of") && some.contains("film 29 of u"))
    #expect(prompt(20) == nil)
    #expect(
      ModelProfile.prompt(
        for: items(0), task: tag, maximumTokens: 100, countTokens: countWords) == nil)
    let starts = try ["film_tag", "film_rating", "email_subject"].map { name in
      try #require(
        ModelProfile.prompt(
          for: items(3), task: try task(name), maximumTokens: 500, countTokens: countWords)
      ).split(separator: "\n")[0]
    }
    #expect(Set(starts).count == 3)
  }

  @Test(
    "of a model's answer one bounded line is kept",
    arguments: [
      (" likes comedies and old films.\nFilm: x", "This user likes comedies and old films."),
      ("This user likes war", "This user likes war."),
      ("\n\n  \"is  strict.\"  ", "This user is strict."),
      ("'s taste is odd!", "This user's taste is odd!"),
      (" likes tea. This user likes tea. This user likes tea.", "This user likes tea."),
      ("", nil), (" \n ...\n", nil), ("This user", nil),
      (" **bold** ones", "This user bold** ones."),
    ] as [(String, String?)])
  func cleaning(answer: String, expected: String?) {
    #expect(ModelProfile.description(in: answer) == expected)
  }

  @Test("a long answer ends with a whole sentence, else with a whole word")
  func longAnswers() throws {
    let sentences = String(repeating: " likes one thing and another thing, too.", count: 20)
    let distinct = (0..<20).map { " They like thing \($0) a lot." }.joined()
    for answer in [sentences, distinct, String(repeating: " and more", count: 99)] {
      let text = try #require(ModelProfile.description(in: answer))
      #expect(text.count <= ModelProfile.maximumCharacters && text.last == ".")
    }
    let text = try #require(ModelProfile.description(in: distinct))
    #expect(text.hasSuffix("a lot."))
  }

  @Test("a profile is written at first, after a shift, after growth and when items were removed")
  func refresh() throws {
    let rule = ProfileRefresh(growth: 0.5, minimumItems: 4)
    func reason(_ current: UserProfile?, _ count: Int, since: String? = nil)
      -> ProfileRefresh.Reason?
    {
      rule.reason(toReplace: current, history: items(count), shiftEventID: since)
    }
    #expect(reason(nil, 3) == nil)
    #expect(reason(nil, 4) == .first)
    let first = try #require(UserProfile(" likes x", from: items(10)))
    #expect(first.version == 1 && first.itemCount == 10 && first.throughEventID == "u-9")
    #expect(first.text == "This user likes x.")
    #expect(reason(first, 14) == nil)
    #expect(reason(first, 15) == .growth)
    #expect(reason(first, 9) == .shortened)
    #expect(reason(first, 11, since: "u-8") == .shift)
    let second = try #require(
      UserProfile(" likes y", from: items(11), since: "u-8", after: first))
    #expect(second.version == 2 && second.sinceEventID == "u-8")
    #expect(reason(second, 12, since: "u-8") == nil)
    #expect(UserProfile.items(of: items(11), since: "u-8").count == 3)
    #expect(UserProfile.items(of: items(11), since: "gone").count == 11)
    #expect(
      ProfileRefresh(growth: 0).reason(
        toReplace: first, history: items(10), shiftEventID: nil) == nil)
    #expect(UserProfile(" ", from: items(5)) == nil)
    #expect(UserProfile("likes x", from: []) == nil)
    // A history that is always cut to its newest items never grows by half.
    let long = items(1_200)
    let cut = try #require(UserProfile(" likes x", from: Array(long.prefix(1_000))))
    func reason(afterNew count: Int) -> ProfileRefresh.Reason? {
      let history = Array(long[count..<(1_000 + count)])
      return rule.reason(toReplace: cut, history: history, shiftEventID: nil)
    }
    #expect(reason(afterNew: ComputedProfile.window - 1) == nil)
    #expect(reason(afterNew: ComputedProfile.window) == .growth)
  }

  @Test("a given profile stands in every example, and examples are asked as questions will be")
  func training() throws {
    let news = try task("LaMP_2N")
    var settings = TrainingSetSettings()
    settings.inputFields = ["text"]
    let past = (0..<4).map { number in
      HistoryItem(
        eventID: "\(number)", occurredAt: .distantPast,
        input: ["title": .string("Title\(number)"), "text": .string("same text")], output: "crime")
    }
    let builder = TrainingSetBuilder(
      prompts: PromptBuilder(
        task: news, variant: PromptVariant(retrieve: 1, profile: true), maximumTokens: 200,
        countTokens: countWords),
      settings: settings)
    let set = try builder.build(history: past, profile: "Given.")
    #expect(set.training.count == 4)
    for (number, example) in set.training.enumerated() {
      #expect(example.prompt.hasPrefix("Given.\n"))
      #expect(!example.prompt.contains("Title\(number)"))
      #expect(
        number == 0 || example.prompt.contains("Title\(number - 1) same text Category: crime"))
      #expect(example.prompt.hasSuffix("\nArticle: same text\nCategory:"))
    }
  }

  @Test("a history as plain text continues its lines and joins to the same text")
  func plainText() throws {
    let tag = try task("film_tag")
    let plain = try tag.asPlainText()
    for item in items(3) {
      let text = try #require(tag.plainText(of: item))
      let whole =
        plain.prompt.render(plain.fieldTexts(text.input)) + plain.completion(for: text.output)
      #expect(whole == tag.historyLine(item) && plain.historyLine(text) == whole)
      #expect(
        try plain.validate(input: .object(text.input), output: .string(text.output)).output
          == text.output)
    }
    let prompt = try PromptBuilder(
      task: tag, historyTask: plain, maximumTokens: 100, countTokens: countWords
    ).build(input: ["film": "x"], retrieved: items(1).compactMap(tag.plainText))
    #expect(prompt.text == "film 0 of u is tagged funny\n\nFilm: x\nTag:")
  }
}
