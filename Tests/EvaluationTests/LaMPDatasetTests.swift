import Foundation
import JSON
import TestSupport
import Testing

@testable import Evaluation
@testable import Personalization

/// Folders in LaMP's format, made by these tests.
@Suite struct LaMPDatasetTests {
  let catalogue: TaskCatalogue

  init() throws {
    let path = Paths.root.appendingPathComponent("examples/real-events.tasks.yaml").path
    catalogue = TaskCatalogue.builtIn.merging(try TaskCatalogue.loading(path: path))
  }

  /// Writes the files, reads the folder and removes it.
  func read(
    _ name: String, questions: String?, outputs: String?, others: String? = nil
  ) throws -> LaMPDataset {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("lamp-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for (file, text) in [
      ("questions.json", questions), ("outputs.json", outputs), ("others.json", others),
    ] {
      guard let text else { continue }
      try Data(text.utf8).write(to: folder.appendingPathComponent(file))
    }
    let task = try catalogue.task(named: name)
    return try LaMPDataset(folder: folder.path, task: task, catalogue: catalogue)
  }

  /// One question of one user; `rows` are the profile's items.
  func headline(_ rows: String, golds: String = #"{"id": "q", "output": "H"}"#) throws
    -> LaMPDataset
  {
    try read(
      "LaMP_4",
      questions: """
        [{"id": "q", "user_id": "u", "profile": [\(rows)],
          "input": "Generate a headline for the following article: One two."}]
        """, outputs: #"{"task": "LaMP_4", "golds": [\#(golds)]}"#)
  }

  @Test("every task takes its fields out of a question as its histories have them")
  func tasks() throws {
    let cases: [(task: String, input: String, item: String, gold: String, fields: JSONValue)] = [
      (
        "LaMP_1",
        #"For an author who has written the paper with the title "On "Trees", again", which "#
          + #"reference is related? Just answer with [1] or [2] without explanation. "#
          + #"[1]: "A "b" c" [2]: "D""#,
        #""title": "T", "citation": "C""#, "[2]",
        ["title": "On \"Trees\", again", "option_1": "A \"b\" c", "option_2": "D"]
      ),
      (
        "LaMP_2N",
        "Which category? categories: [travel, crime] article: A man's article: two. ",
        #""text": "x", "title": "y", "category": "crime""#, "Crime",
        ["text": "A man's article: two."]
      ),
      (
        "LaMP_2M", "Which tag? tags: [sci-fi, comedy] description: Space.",
        #""description": "x", "tag": "sci-fi""#, "comedy", ["description": "Space."]
      ),
      (
        "LaMP_3",
        "What is the score? just answer with 1, 2, 3, 4, or 5 without further explanation. "
          + "review: Bad. review: worse", #""text": "x", "score": "3""#, "2",
        ["text": "Bad. review: worse"]
      ),
      (
        "LaMP_4", "Generate a headline for the following article: It is so.",
        #""text": "x", "title": "y""#, "So", ["text": "It is so."]
      ),
      (
        "LaMP_5", "Generate a title for the following abstract of a paper: We show.",
        #""abstract": "x", "title": "y""#, "Showing", ["abstract": "We show."]
      ),
      (
        "LaMP_6", "Generate a subject for the following email: Dear all",
        #""text": "x", "title": "y""#, "News", ["text": "Dear all"]
      ),
      (
        "LaMP_7",
        "Paraphrase the following tweet without any explanation before or after it: I am glad",
        #""text": "x""#, "so glad", ["text": "I am glad"]
      ),
      (
        "movielens_rating",
        #"What would this user rate the movie "M "2" (1995)" (genres: Drama, War) on a scale of 1 "#
          + "to 5? just answer with 1, 2, 3, 4, or 5 without further explanation.",
        #""text": "x", "score": 3"#, "4", ["text": "M \"2\" (1995), genres: Drama, War"]
      ),
      (
        "huffpost_category", "Which category? categories: [comedy, tech] article: Ha.",
        #""text": "x", "title": "y", "category": "tech""#, "comedy", ["text": "Ha."]
      ),
      (
        "digitalgov_headline", "Generate a headline for the following article: Data.",
        #""text": "x", "title": "y""#, "On data", ["text": "Data."]
      ),
      (
        "LongLaMP_abstract",
        "Generate an abstract for the title \"T: a \"t\"\" using the following items: 1. a\n2. b",
        #""title": "x", "abstract": "y", "year": 2019"#, "We do.\nMuch.",
        ["title": "T: a \"t\"", "items": "1. a\n2. b"]
      ),
      (
        "LongLaMP_topic", "Generate the content for a reddit post Cats are fun",
        #""summary": "x", "content": "y""#, "They are.", ["summary": "Cats are fun"]
      ),
      (
        "LongLaMP_review",
        "Generate the review text written by a reviewer who has a given an overall rating of "
          + #""4.0" for a product with description "Book". The summary of the review text is "Ok"."#,
        #""overall": 5.0, "description": "x", "summary": "y", "reviewText": "z""#, "Fine.",
        ["overall": "4", "description": "Book", "summary": "Ok"]
      ),
      (
        "reddit_qa", "Answer the following question: Why?", #""question": "x", "answer": "y""#,
        "Because.", ["question": "Why?"]
      ),
    ]
    for (name, input, item, gold, fields) in cases {
      let question: JSONValue = ["id": 1, "user_id": "u", "input": .string(input), "profile": []]
      let items = "{\"id\": 7, \(item)}, {\"id\": 8, \(item.replacing("\"C\"", with: "\"E\""))}"
      let data = try read(
        name, questions: "[\(question.canonical.replacing("[]", with: "[\(items)]"))]",
        outputs: JSONValue.object([
          "task": .string(name), "golds": [["id": 1, "output": .string(gold)]],
        ]).canonical)
      #expect(data.notes.isEmpty, "\(name): \(data.notes)")
      let query = try #require(data.users.first?.queries.first)
      #expect(JSONValue.object(query.input) == fields, "\(name)")
      #expect(query.gold?.lowercased() == gold.lowercased())
      // A choice needs an earlier item for its other text.
      #expect(data.users[0].history.count == (name == "LaMP_1" ? 1 : 2), "\(name)")
      for item in data.users[0].history {
        let prompt = data.historyTask.prompt.render(data.historyTask.fieldTexts(item.input))
        #expect(!prompt.contains("\n\n") && !prompt.contains("  "))
      }
    }
  }

  @Test("items that hold only a citation become choices between it and an earlier one")
  func choices() throws {
    let items = (0..<40).map {
      #"{"id": "p\#($0)", "title": "paper \#($0)", "citation": "cited \#($0 % 3)"}"#
    }.joined(separator: ",")
    let input =
      #"written the paper with the title \"T\", which is it? [1]: \"A\" [2]: \"B\""#
    func data() throws -> LaMPDataset {
      try read(
        "LaMP_1", questions: #"[{"id": "q", "input": "\#(input)", "profile": [\#(items)]}]"#,
        outputs: #"{"golds": [{"id": "q", "output": "[1]"}]}"#)
    }
    let history = try data().users[0].history
    #expect(history.count == 39)
    #expect(try data().users[0].history == history)
    var answers: Set<String> = []
    for item in history {
      let number = try #require(Int(item.eventID.dropFirst()))
      let own = item.input[item.output == "[1]" ? "option_1" : "option_2"]
      let other = item.input[item.output == "[1]" ? "option_2" : "option_1"]
      #expect(own == .string("cited \(number % 3)"))
      let foreign = try #require((other?.string?.dropFirst(6)).flatMap { Int($0) })
      #expect(foreign < number && foreign != number % 3)
      answers.insert(item.output)
    }
    #expect(answers == ["[1]", "[2]"])
  }

  @Test("papers without citations are read as the history task")
  func historyTask() throws {
    let data = try read(
      "LaMP_1",
      questions: """
        [{"id": "q", "input": "written the paper with the title \\"T\\", which [1]: \\"A\\" [2]: \\"B\\"",
          "profile": [{"id": 1, "title": "P", "abstract": "We."}]}]
        """, outputs: #"{"task": "LaMP_1", "golds": [{"id": "q", "output": "[2]"}]}"#)
    #expect(data.historyTask.name == "LaMP_5" && data.task.name == "LaMP_1")
    #expect(data.users[0].history.map(\.output) == ["P"])
    #expect(data.users[0].history[0].input == ["abstract": "We."])
    // Examples are asked with what the papers tell, not with what the questions do.
    #expect(data.queryFields == ["abstract"])
  }

  @Test("histories stand oldest first; equal dates and undated items keep the file's order")
  func order() throws {
    func ids(_ dates: [String?]) throws -> String {
      let rows = dates.enumerated().map { index, date in
        #"{"id": \#(index), "text": "t", "title": "h"\#(date.map { ", \"date\": \($0)" } ?? "")}"#
      }
      return try headline(rows.joined(separator: ",")).users[0].history.map(\.eventID)
        .joined(separator: " ")
    }
    #expect(try ids([nil, nil, nil]) == "0 1 2")
    #expect(try ids([#""2020-01-02""#, #""2019-12-31""#, #""2020-01-02""#]) == "1 0 2")
    #expect(try ids([#""2020-01-02""#, nil, #""2019-12-31""#]) == "2 0 1")
    #expect(try ids([nil, #""2020-01-02""#, #""2019-12-31""#]) == "2 0 1")
    #expect(
      try ids(["2021", "1262304000", #""2015-06""#, #""2015-06-01T00:00:00+02:00""#]) == "1 3 2 0")
    let bad = try headline(#"{"id": 1, "text": "t", "title": "h", "date": "2020-02-30"}"#)
    #expect(
      bad.notes.map(\.description) == [
        "questions.json, row 1 (id q): item 1 (id 1): the date \"2020-02-30\" cannot be read; "
          + "taken as undated"
      ])
  }

  @Test("dates are days of the calendar in UTC")
  func dates() throws {
    let cases: [(JSONValue, Double?)] = [
      ("1970-01-01", 0), ("2000-02-29", 951_782_400), ("2020-04-14", 1_586_822_400),
      ("2020-04-14 01:02:03.5", 1_586_826_123.5), ("2020-04-14T00:00:00Z", 1_586_822_400),
      ("1969-12-31T23:59:59-00:30", 1_799), (2020, 1_577_836_800), ("2020", 1_577_836_800),
      (1_586_822_400_000, 1_586_822_400), ("1900-03-01", -2_203_891_200), ("", nil), ("today", nil),
      ("2019-02-29", nil), ("2020-13-01", nil), ("2020-04-14 25:00", nil), (true, nil),
    ]
    for (value, seconds) in cases {
      #expect(LaMPDate(value)?.date.timeIntervalSince1970 == seconds, "\(value)")
    }
  }

  @Test("a user's questions have one history; different profiles are put together with a note")
  func merging() throws {
    func question(_ id: Int, _ text: String, _ profile: String) -> String {
      """
      {"id": \(id), "user_id": 5, "profile": [\(profile)],
       "input": "Generate a headline for the following article: \(text)"}
      """
    }
    let one = #"{"id": 1, "text": "a", "title": "A"}"#
    let two = #"{"id": 2, "text": "b", "title": "B"}"#
    let golds = #"{"golds": [{"id": 10, "output": "Q"}, {"id": 11, "output": "B"}]}"#
    let same = try read(
      "LaMP_4", questions: "[\(question(10, "q", one)), \(question(11, "r", one))]", outputs: golds)
    #expect(same.users.map(\.id) == ["5"] && same.users[0].queries.map(\.id) == ["10", "11"])
    #expect(same.notes.isEmpty && same.users[0].history.count == 1)
    let changed = #"{"id": 1, "text": "a", "title": "Z"}"#
    let merged = try read(
      "LaMP_4",
      questions: "[\(question(10, "q", one)), \(question(11, "b", "\(changed), \(two)"))]",
      outputs: golds)
    #expect(merged.users[0].history.map(\.output) == ["A"])
    #expect(
      merged.notes.map(\.description) == [
        "questions.json, row 2 (id 11): item 1 (id 1) differs from an earlier item of this id; "
          + "the first counts",
        "questions.json: the questions of user 5 have different profiles; their items are put "
          + "together",
        "questions.json: user 5: item 2 is question 11 with its answer; left out",
      ])
  }

  @Test(
    "an item that cannot be used is named and left out",
    arguments: [
      ("3", "item 2 is a number, expected an object; left out"),
      (#"{"text": "b", "title": "B"}"#, "1 of 2 items have no id; they are called by their place"),
      (#"{"id": 1, "text": "b", "title": "B"}"#, "item 2 (id 1): this id stands in the profile"),
      (#"{"id": 2, "text": "b"}"#, "item 2 (id 2) has no title; left out"),
      (
        #"{"id": 2, "title": "B"}"#,
        "item 2 (id 2): task \"LaMP_4\", field \"input.text\": expected"
      ),
      (
        #"{"id": 2, "text": {}, "title": "B"}"#, "field \"input.text\": expected a string, a number"
      ),
      (#"{"id": 2, "text": "b", "title": []}"#, "field \"output\": expected a string or a number"),
    ])
  func badItems(row: String, sentence: String) throws {
    let data = try headline(#"{"id": 1, "text": "a", "title": "A"}, "# + row)
    #expect(data.users[0].history.count == (sentence.contains("no id") ? 2 : 1))
    #expect(data.notes.count == 1)
    #expect(data.notes[0].description.hasPrefix("questions.json, row 1 (id q): "))
    #expect(data.notes[0].problem.contains(sentence), "\(data.notes[0])")
  }

  @Test("a text that is too long is cut, and the row kept")
  func longText() throws {
    let long = String(repeating: "é ", count: 10_000)
    let data = try headline(#"{"id": 1, "text": "\#(long)", "title": "A"}"#)
    #expect(data.users[0].history[0].input["text"]?.string?.utf8.count == 16_383)
    #expect(
      data.notes.map(\.problem) == [
        "item 1 (id 1): the field text has 30000 bytes, cut to 16384"
      ])
  }

  @Test("questions and golds that cannot be used are named, and the rest is read")
  func badRows() throws {
    let profile = #""profile": [{"id": 1, "text": "a", "score": 4}]"#
    let input = #""input": "without further explanation. review: x""#
    let data = try read(
      "LaMP_3",
      questions: """
        [{"id": "a", \(input), \(profile)}, {\(input), \(profile)}, 7, {"id": "a", \(input), \(profile)},
         {"id": "b", "input": "review x", \(profile)}, {"id": "c", \(input), \(profile)},
         {"id": "d", "input": 3, \(profile)}, {"id": "e", \(input), "profile": "none"},
         {"id": "f", \(input), "profile": []}, {"id": "g", \(input), \(profile)},
         {"id": "h", \(input), "user_id": [], \(profile)}]
        """,
      outputs: """
        {"task": "LaMP_4", "golds": [{"id": "a", "output": 5}, {"id": "b", "output": 1}, {"output": 1},
         {"id": "d", "output": "2"}, {"id": "e", "output": "2"}, {"id": "f", "output": "2"},
         {"id": "g", "output": "6"}, {"id": "a", "output": "4"}, {"id": "z", "output": "2"},
         {"id": "c"}, {"id": "h", "output": 1}]}
        """)
    #expect(data.users.map(\.id) == ["a", "e", "f"])
    #expect(data.users.map(\.history.count) == [1, 0, 0])
    let found = data.notes.map(\.description).sorted()
    let expected = [
      "outputs.json, row 10 (id c): the gold has no output; left out",
      "outputs.json, row 3: the gold has no id; left out",
      "outputs.json, row 8 (id a): this id has a gold already, with another output; the first counts",
      "outputs.json, row 9 (id z): questions.json has no question of this id; left out",
      "outputs.json: these are golds of the task LaMP_4, read as LaMP_3",
      "questions.json, row 10 (id g): task \"LaMP_3\", field \"output\": expected a rating from 1 to 5, "
        + "found \"6\"; left out",
      "questions.json, row 11 (id h): user_id is an array, expected a string or a number; left out",
      "questions.json, row 2: the question has no id; left out",
      "questions.json, row 3: expected an object, found a number; left out",
      "questions.json, row 4 (id a): this id stands in the file already; left out",
      "questions.json, row 5 (id b): its input has none of the task's patterns \"without further "
        + "explanation. review: {text}\"; left out",
      "questions.json, row 6 (id c): outputs.json has no gold for this question; left out",
      "questions.json, row 7 (id d): input is a number, expected a string; left out",
      "questions.json, row 8 (id e): profile is a string, expected a list; taken as empty",
      "questions.json, row 9 (id f): the history is empty",
    ]
    #expect(found == expected)
  }

  @Test(
    "a file that cannot be used is an error that names it",
    arguments: [
      (nil, "[]", nil, "/questions.json: there is no such file"),
      ("[]", nil, nil, "/outputs.json: there is no such file"),
      (
        "[]", "{}", nil,
        "/outputs.json: expected an object with the list \"golds\", found an object"
      ),
      ("{}", "[]", nil, "/questions.json: expected a list of questions"),
      ("[]", "[]", nil, "/questions.json: none of its 0 questions can be used"),
      (
        "[{\"id\": 1}]", "[]", nil,
        "1 questions can be used; the first problem is: questions.json, row 1"
      ),
      ("[\n{\"id\": 1,\n}]", "[]", nil, "/questions.json:3: this is not JSON: no member name"),
      (
        "[]", "{\"golds\": [}", nil,
        "/outputs.json:1: this is not JSON: no value"
      ),
      (
        "[{\"id\": 1, \"input\": \"without further explanation. review: x\", \"profile\": []}]",
        "[{\"id\": 1, \"output\": 3}]", "{}", "/others.json: expected a list of users"
      ),
    ] as [(String?, String?, String?, String)])
  func badFiles(questions: String?, outputs: String?, others: String?, sentence: String) throws {
    #expect {
      try read("LaMP_3", questions: questions, outputs: outputs, others: others)
    } throws: {
      if !"\($0)".contains(sentence) { print("found: \($0)") }
      return $0 is LaMPFileError && "\($0)".contains(sentence)
    }
  }

  @Test("other users come with their history and their answered queries")
  func others() throws {
    let data = try read(
      "LaMP_3",
      questions: """
        [{"id": 1, "input": "without further explanation. review: x",
          "profile": [{"id": 1, "text": "a", "score": 4}]}]
        """, outputs: #"[{"id": 1, "output": 3}]"#,
      others: """
        [{"user_id": "o", "profile": [{"id": 9, "text": "b", "score": "2"}],
          "query": [{"id": 1, "input": "without further explanation. review: y", "gold": "1"},
                    {"id": 2, "input": "without further explanation. review: z"},
                    {"id": 1, "input": "without further explanation. review: y", "gold": "1"}]},
         {"profile": []}, {"user_id": "o", "profile": []}, {"user_id": "p", "profile": []}]
        """)
    #expect(data.others.map(\.id) == ["o"])
    #expect(data.others[0].history.map(\.output) == ["2"])
    #expect(data.others[0].queries.map(\.gold) == ["1"])
    #expect(
      data.notes.map(\.description) == [
        "others.json, row 1 (id o): query 2 (id 2) has no gold; left out",
        "others.json, row 1 (id o): query 3: its id 1 stands in the file already; left out",
        "others.json, row 2: the user has no user_id; left out",
        "others.json, row 3 (id o): this user stands in the file already; left out",
        "others.json, row 4 (id p): the history is empty",
        "others.json, row 4 (id p): the user has neither history nor queries that can be used; left out",
      ])
  }

  @Test("a development set is a third of the other users, and no evaluated one")
  func development() throws {
    let others = (1...9).map { user in
      """
      {"user_id": "o\(user)", "profile": [{"id": "p\(user)", "text": "A text.", "title": "T"}],
       "query": [{"id": "q\(user)", "gold": "G",
         "input": "Generate a headline for the following article: Words."}]}
      """
    }.joined(separator: ",")
    let whole = try read(
      "LaMP_4",
      questions: """
        [{"id": "q", "user_id": "u", "profile": [{"id": "p", "text": "A text.", "title": "T"}],
          "input": "Generate a headline for the following article: One two."}]
        """, outputs: #"{"task": "LaMP_4", "golds": [{"id": "q", "output": "H"}]}"#,
      others: "[\(others)]")
    let part = try whole.development(seed: 3)
    #expect(part.users.count == 3)
    #expect(part.users.allSatisfy { $0.id.hasPrefix("o") && !$0.queries.isEmpty })
    #expect(Set((part.users + part.others).map(\.id)) == Set(whole.others.map(\.id)))
    #expect(part.others.count == 6)
    #expect(try whole.development(seed: 3).users == part.users)
    #expect(
      String(decoding: part.submission([part.users[0].queries[0].id: "H"]), as: UTF8.self)
        .contains(part.users[0].queries[0].id))
    var left = part
    while left.others.count > 2 { left = try left.development(seed: 3) }
    #expect(throws: LaMPFileError.self) { try left.development(seed: 3) }
  }

  @Test("answers are written in LaMP's form, ids as the files have them")
  func submission() throws {
    let input = #""input": "without further explanation. review: x", "profile": []"#
    let data = try read(
      "LaMP_3", questions: #"[{"id": 12, \#(input)}, {"id": "b", \#(input)}]"#,
      outputs: #"{"task": "LaMP_3", "golds": [{"id": "b", "output": 3}, {"id": 12, "output": 3}]}"#)
    let found = String(decoding: data.submission(["12": "4", "b": "5", "x": "1"]), as: UTF8.self)
    #expect(
      found == #"{"golds":[{"id":12,"output":"4"},{"id":"b","output":"5"}],"task":"LaMP_3"}"# + "\n"
    )
  }

  @Test("a task without the key takes whole inputs and items of its own field names")
  func plain() throws {
    let data = try read(
      "film_tag",
      questions: """
        [{"id": 1, "input": "a film", "profile": [{"id": 1, "film": "b", "output": "sad"}]},
         {"id": 2, "input": {"film": "c"}, "profile": []}]
        """, outputs: #"[{"id": 1, "output": "funny"}, {"id": 2, "output": "sad"}]"#)
    #expect(data.users.map { $0.queries[0].input } == [["film": "a film"], ["film": "c"]])
    #expect(data.users[0].history.map(\.output) == ["sad"])
    #expect(data.notes.count == 1 && data.queryFields == ["film"])
  }

  @Test("very many problems are counted after the first of them")
  func manyNotes() throws {
    let rows = (0..<500).map { #"{"id": \#($0), "text": "t"}"# }.joined(separator: ",")
    let notes = try headline(rows).notes
    #expect(notes.count == 201)
    #expect(notes.last?.description == "questions.json: 300 more problems of this kind")
  }

  @Test("a history of 100,000 items is read and searched in seconds")
  func size() throws {
    let words = (0..<500).map { "word\($0 * 7919 % 500)" }
    let rows = (0..<100_000).map { number in
      let text = (0..<20).map { words[(number * 31 + $0 * $0) % 500] }.joined(separator: " ")
      return #"{"id": "\#(number)", "text": "\#(text)", "title": "title \#(number)"}"#
    }
    let start = ContinuousClock.now
    let data = try headline(rows.joined(separator: ","))
    let retriever = HistoryRetriever(task: data.historyTask, items: data.users[0].history)
    let built = ContinuousClock.now
    #expect(retriever.retrieve(["text": "word1 word7 word21"], k: 4).count == 4)
    let end = ContinuousClock.now
    print("100,000 items: read and indexed in \(built - start), searched in \(end - built)")
    #expect(data.users[0].history.count == 100_000 && data.notes.isEmpty)
    // A few seconds where this was written; the limit only catches a wrong order of growth.
    #expect(end - start < .seconds(120))
  }

  // MARK: As LaMP and OPPU publish them

  /// Writes files of any name and gives the body their folder.
  func withFiles<Value>(
    _ files: [String: String], _ body: (String) throws -> Value
  ) throws -> Value {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("lamp-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, text) in files {
      try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    }
    return try body(folder.path)
  }

  private static let film =
    #""input": "Which tag? tags: [sci-fi, comedy] description: Space.", "#
    + #""profile": [{"id": "1001", "description": "x", "tag": "sci-fi"}]"#

  @Test(
    "LaMP's own files are read as downloaded: the dev split, and one whose answers nobody tells")
  func publishedByLaMP() throws {
    let files = [
      "dev_questions.json": #"[{"id": 100, \#(Self.film)}]"#,
      "dev_outputs.json": #"{"task": "LaMP_2", "golds": [{"id": "100", "output": "comedy"}]}"#,
      "test_questions.json": #"[{"id": "200", \#(Self.film)}, {"id": "201", \#(Self.film)}]"#,
    ]
    try withFiles(files) { folder in
      let found = try #require(LaMPFiles(folder: folder))
      #expect(found.questions == "dev_questions.json" && found.others == nil)
      let task = try catalogue.task(named: "LaMP_2", of: found, in: folder)
      #expect(task.name == "LaMP_2M", "the film's tag, by the first question")
      let dev = try LaMPDataset(folder: folder, task: task, catalogue: catalogue)
      #expect(dev.users.map(\.id) == ["100"] && dev.users[0].queries[0].gold == "comedy")
      #expect(dev.users[0].history.count == 1 && dev.others.isEmpty && dev.notes.isEmpty)
      // The id as the known answers have it: LaMP's script compares them so.
      #expect(
        String(decoding: dev.submission(["100": "sci-fi"]), as: UTF8.self)
          == #"{"golds":[{"id":"100","output":"sci-fi"}],"task":"LaMP_2"}"# + "\n")

      let test = try LaMPDataset(
        folder: folder, task: task, catalogue: catalogue, split: .test)
      #expect(test.users.map(\.id) == ["200", "201"])
      #expect(test.users.allSatisfy { $0.queries[0].gold == nil })
      #expect(test.taskName == "LaMP_2" && test.notes.isEmpty)
      #expect(
        String(decoding: test.submission(["200": "a", "201": "b"]), as: UTF8.self)
          == #"{"golds":[{"id":"200","output":"a"},{"id":"201","output":"b"}],"task":"LaMP_2"}"#
          + "\n")
      #expect(throws: LaMPFileError.self) {
        try LaMPDataset(folder: folder, task: task, catalogue: catalogue, split: .train)
      }
    }
    try withFiles(["test_questions.json": files["test_questions.json"] ?? ""]) { folder in
      #expect(LaMPFiles(folder: folder)?.outputs == nil, "taken where there is nothing else")
    }
    try withFiles(["dev_questions.json": #"[{"id": "1", "input": "article: x"}]"#]) { folder in
      let found = try #require(LaMPFiles(folder: folder))
      #expect(throws: LaMPFileError.self) {
        try catalogue.task(named: "LaMP_2", of: found, in: folder)
      }
      let news = try #require(catalogue["LaMP_2N"])
      #expect(throws: LaMPFileError.self, "the dev split has answers") {
        try LaMPDataset(folder: folder, task: news, catalogue: catalogue)
      }
    }
  }

  @Test("OPPU's own files are read as downloaded: users with long histories, and the others")
  func publishedByOPPU() throws {
    func user(_ id: Int, _ queries: String) -> String {
      #"{"user_id": \#(id), "profile": [{"id": "\#(id)01", "text": "x", "title": "y", "category": "crime"}], "#
        + #""query": [\#(queries)]}"#
    }
    func query(_ id: Int, _ gold: String) -> String {
      #"{"id": \#(id), "input": "Which? categories: [crime] article: Text \#(id)."\#(gold)}"#
    }
    let files = [
      "user_top_100_history.json":
        "[\(user(1, query(11, #", "gold": "crime""#) + "," + query(12, ""))), \(user(2, ""))]",
      "user_others.json": "[\(user(3, query(31, #", "gold": "politics""#)))]",
    ]
    try withFiles(files) { folder in
      let found = try #require(LaMPFiles(folder: folder))
      #expect(found.paths(in: folder).count == 2)
      let task = try catalogue.task(named: "LaMP_2", of: found, in: folder)
      #expect(task.name == "LaMP_2N")
      let data = try LaMPDataset(folder: folder, task: task, catalogue: catalogue)
      #expect(data.users.map(\.id) == ["1"], "a user without a query is no target")
      #expect(data.users[0].queries.map(\.gold) == ["crime", nil])
      #expect(data.others.map(\.id) == ["3"])
      #expect(data.others[0].queries.map(\.gold) == ["politics"])
      #expect(
        String(decoding: data.submission(["11": "crime", "12": "women"]), as: UTF8.self)
          == #"{"golds":[{"id":11,"output":"crime"},{"id":12,"output":"women"}],"task":"LaMP_2"}"#
          + "\n")
    }
  }
}
