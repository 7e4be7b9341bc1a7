import Foundation
import JSON
import Testing

@testable import Personalization

@Suite struct TaskTests {
  let tag: TaskDefinition
  let rating: TaskDefinition
  let subject: TaskDefinition

  init() throws {
    tag = try TaskCatalogue.builtIn.task(named: "film_tag")
    rating = try TaskCatalogue.builtIn.task(named: "film_rating")
    subject = try TaskCatalogue.builtIn.task(named: "email_subject")
  }

  @Test("the built-in tasks load and are the ones documented")
  func builtIn() {
    #expect(
      TaskCatalogue.builtIn.names == [
        "LaMP_1", "LaMP_2M", "LaMP_2N", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_6", "LaMP_7",
        "LongLaMP_abstract", "LongLaMP_review", "LongLaMP_topic", "email_subject", "film_rating",
        "film_tag", "reddit_qa",
      ])
  }

  @Test("a definition survives JSON", arguments: TaskCatalogue.builtIn.names)
  func json(name: String) throws {
    let task = try TaskCatalogue.builtIn.task(named: name)
    let data = try JSONEncoder().encode(task)
    #expect(try JSONDecoder().decode(TaskDefinition.self, from: data) == task)
  }

  @Test("an unknown task is refused with the list of known ones")
  func unknownTask() {
    #expect {
      try TaskCatalogue.builtIn.task(named: "film_tags")
    } throws: {
      "\($0)".hasPrefix("unknown task \"film_tags\"; the catalogue has LaMP_1, ")
    }
  }

  @Test("an own file's tasks come beside the built-in ones and replace those of the same name")
  func merging() throws {
    let own = try TaskCatalogue.loading(
      yaml: """
        tasks:
          film_tag:
            kind: label
            labels: ["yes", "no"]
            fields: [film]
            prompt: "Good? {film}"
            history_item: "{film}: {output}"
          mine:
            kind: rating
            rating: {minimum: 0.5, maximum: 5, step: 0.5}
            fields:
              text: {required: false, maximum_bytes: 10}
            prompt: "{text:3} gets"
            history_item: "{text} got {output}"
        """, fileName: "own.yaml")
    let all = TaskCatalogue.builtIn.merging(own)
    #expect(all["film_tag"]?.labels == ["yes", "no"])
    #expect(all["mine"]?.rating?.values.count == 10)
    #expect(all["mine"]?.fields == [InputField(name: "text", required: false, maximumBytes: 10)])
    #expect(all["LaMP_3"] == TaskCatalogue.builtIn["LaMP_3"])
  }

  @Test("what shifts are detected by is all signals, those that a task names, or none")
  func shiftSignals() throws {
    func signals(_ line: String) throws -> [ShiftSignal] {
      try TaskCatalogue.loading(
        yaml: """
          tasks:
            mine:
              kind: text
              fields: [text]
              prompt: "{text} ->"
              history_item: "{text} {output}"
              \(line)
          """, fileName: "own.yaml"
      ).task(named: "mine").shiftSignals
    }
    #expect(try signals("") == [.loss, .output, .input])
    #expect(try signals("shift_signals: [output]") == [.output])
    #expect(try signals("shift_signals: []") == [])
    #expect {
      try signals("shift_signals: [words]")
    } throws: {
      "\($0)".contains("own.yaml:7: tasks.mine.shift_signals: expected one of loss, output, input")
    }
  }

  @Test(
    "a mistake in a task file is told with file, line, key and what was expected",
    arguments: [
      ("", "own.yaml: the file is empty; expected the key tasks"),
      ("- a", "own.yaml:1: expected a mapping of keys to values"),
      ("task: {}", "own.yaml:1: task: unknown key; only tasks stands at the top"),
      ("tasks: [", "own.yaml:2: tasks[0]: did not find expected node content"),
      ("tasks:\n  a: {kind: tag}", "own.yaml:2: tasks.a.kind: expected one of label, rating, text"),
      ("tasks:\n  a: {kind: text}", "own.yaml:2: tasks.a: the key fields is missing"),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{y}:'\n"
          + "    history_item: '{output}'",
        "own.yaml:5: tasks.a.prompt: unknown placeholder {y}; the fields are x"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x'\n"
          + "    history_item: '{output}'", "own.yaml:5: tasks.a.prompt: the template \"{x\" has"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x} {output}'\n"
          + "    history_item: '{output}'", "own.yaml:5: tasks.a.prompt: {output} has no place here"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x} '\n"
          + "    history_item: '{output}'", "own.yaml:5: tasks.a.prompt: it ends in white space"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: 'none'", "own.yaml:6: tasks.a.history_item: {output} does not stand"
      ),
      (
        "tasks:\n  a:\n    kind: label\n    labels: [b, B]\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'",
        "own.yaml:4: tasks.a.labels: the label \"B\" stands twice"
      ),
      (
        "tasks:\n  a:\n    kind: rating\n    rating: {minimum: 5, maximum: 1}\n    fields: [x]\n"
          + "    prompt: '{x}'\n    history_item: '{output}'",
        "own.yaml:4: tasks.a.rating: a scale has minimum < maximum"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    metrics: [mae]\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'",
        "own.yaml:4: tasks.a.metrics: mae does not measure a text task; rouge_1, rouge_l do"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    prompts: x", "own.yaml:4: tasks.a.prompts: unknown key"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    maximum_tokens: many",
        "own.yaml:7: tasks.a.maximum_tokens: expected a whole number"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: 'text'\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: text without a {name} has no place in the pattern"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x:3}'\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: {name:words} has no place in the pattern"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{y}{x}'\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: {x} directly after another name has no place"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{y}'\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: the pattern \"{y}\" does not fill the required field x"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: {pattern: '{y}', fields: {x: '{z}'}}\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: {z} of x does not stand in the pattern"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: {pattern: '{y}', fields: {z: '{y}'}}\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: unknown field z; the fields are x"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: {patterns: '{y}'}\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query.patterns: unknown key"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: []\n      history: {x: a, output: b}",
        "own.yaml:8: tasks.a.lamp.query: no pattern stands in it"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {output: b}",
        "own.yaml:9: tasks.a.lamp.history: the required field x is not listed"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {x: a}",
        "own.yaml:9: tasks.a.lamp.history: expected output: the key of the user's answer"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {x: a, z: c, output: b}",
        "own.yaml:9: tasks.a.lamp.history: unknown field z; the fields are x, and output"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {x: {}, output: b}",
        "own.yaml:9: tasks.a.lamp.history.x: expected a string"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {x: a, output: b}\n      keys: 1",
        "own.yaml:10: tasks.a.lamp.keys: unknown key; the keys are choices, history, history_task, query"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    lamp:\n      query: '{x}'\n      history: {x: a}\n      choices: {own: c, options: [x]}",
        "own.yaml:10: tasks.a.lamp.choices: expected own and as many options"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    profile: '{y}'",
        "own.yaml:7: tasks.a.profile: unknown placeholder {y}; the fields are x"
      ),
      (
        "tasks:\n  a:\n    kind: text\n    fields: [x]\n    prompt: '{x}'\n"
          + "    history_item: '{output}'\n    query: '{output}'",
        "own.yaml:7: tasks.a.query: {output} has no place here"
      ),
    ])
  func fileMistakes(text: String, sentence: String) {
    #expect {
      try TaskCatalogue.loading(yaml: text, fileName: "own.yaml")
    } throws: {
      let found = "\($0)"
      if !found.contains(sentence) { print("found: \(found)") }
      return $0 is TaskFileError && found.contains(sentence)
    }
  }

  @Test("placeholders take words, braces double, and a user's braces stay text")
  func templates() throws {
    let template = try PromptTemplate("{{{a}}} {b:2}|{c}")
    #expect(template.placeholders == ["a", "b", "c"])
    #expect(template.render(["a": "x {b}\ny", "b": "one two three"]) == "{x {b} y} one two|")
    // A missing value takes one of its two spaces with it, and its line where nothing else stands
    // there.
    #expect(try PromptTemplate("A: {a} {b} {c}!").render(["b": "x"]) == "A: x !")
    #expect(try PromptTemplate("{a} {b}").render(["b": "x"]) == "x")
    #expect(try PromptTemplate("A: {a}\nB: {b}\nC").render(["b": "x"]) == "B: x\nC")
    #expect(try PromptTemplate("A: {a}\nC").render(["a": ""]) == "A: \nC")
    for bad in ["{", "}", "{a b}", "{}", "{a:0}", "{a:x}"] {
      #expect(throws: TemplateError.self) { try PromptTemplate(bad) }
    }
  }

  @Test("a pattern takes values from a text, the last literal as late as it stands")
  func patterns() throws {
    let film = try TextPattern("film \"{name}\" (of {year})")
    #expect(film.names == ["name", "year"])
    #expect(
      film.values(in: "the film \"A \"b\" c\" (of 1990) (or) now")
        == ["name": "A \"b\" c", "year": "1990) (or"])
    #expect(film.values(in: "film \"A\" of 1990") == nil)
    #expect(film.values(in: "") == nil)
    #expect(try TextPattern("a: {x}").values(in: "b a: a: é \n") == ["x": "a: é"])
    #expect(try TextPattern("{x} end").values(in: "the end end.") == ["x": "the end"])
    #expect(try TextPattern("{{{x}}}").values(in: "so {y}") == ["x": "y"])
    for bad in ["", "a", "{x}{y}", "{x} {x}", "{x:2}", "{x"] {
      #expect(throws: TemplateError.self) { try TextPattern(bad) }
    }
  }

  @Test("content is taken in the task's own form, unknown fields kept")
  func validContent() throws {
    let content = try tag.validate(input: ["film": "x", "page": 3], output: " Silent  Age ")
    #expect(content.output == "silent age")
    #expect(content.input["page"] == 3)
    #expect(try rating.validate(input: ["film": "x"], output: "4.0").output == "4")
    #expect(try rating.validate(input: ["film": "x"], output: 4).output == "4")
    #expect(try subject.validate(input: ["message": 7], output: "a\n b ").output == "a b")
    #expect(try subject.validate(input: ["message": "m"], output: nil).output == nil)
  }

  @Test("content that cannot be taken is refused with field, expectation and finding")
  func invalidContent() {
    let cases: [(TaskDefinition, JSONValue, JSONValue?, String)] = [
      (tag, "x", nil, "field \"input\": expected an object of the task's fields, found a string"),
      (tag, [:], nil, "field \"input.film\": expected a value, found nothing"),
      (tag, ["film": " "], nil, "field \"input.film\": expected a value, found an empty text"),
      (tag, ["film": [:]], nil, "field \"input.film\": expected a string, a number"),
      (tag, ["film": .string(String(repeating: "x", count: 16_385))], nil, "at most 16384 bytes"),
      (
        tag, ["film": "x", "more": .string(String(repeating: "x", count: 65_536))], nil,
        "field \"input\": expected at most 65536 bytes"
      ),
      (
        tag, ["film": "x"], "horror", "expected one of the labels funny, tense, sad, dreamy, silent"
      ),
      (
        tag, ["film": "x"], true, "field \"output\": expected a string or a number, found a boolean"
      ),
      (rating, ["film": "x"], 6, "expected a rating from 1 to 5, found \"6\""),
      (rating, ["film": "x"], 3.5, "expected a rating from 1 to 5, found \"3.5\""),
      (rating, ["film": "x"], "nan", "expected a rating from 1 to 5, found \"nan\""),
      (subject, ["message": "x"], " \n", "field \"output\": expected a text, found an empty text"),
      (
        subject, ["message": "x"], .string(String(repeating: "x", count: 16_385)),
        "field \"output\": expected at most 16384 bytes, found 16385"
      ),
    ]
    for (task, input, output, sentence) in cases {
      #expect {
        try task.validate(input: input, output: output)
      } throws: {
        $0 is TaskContentError && "\($0)".contains(sentence)
      }
    }
  }

  @Test("an answer is read as the output it stands for, or not at all")
  func parsing() {
    #expect(tag.parse(" sad") == "sad")
    #expect(tag.parse("\"Silent Age\".\nFilm: x") == "silent age")
    #expect(tag.parse("It is dreamy and sad") == "dreamy")
    #expect(tag.parse("sadness") == nil)
    let choice = TaskCatalogue.builtIn["LaMP_1"]
    #expect(
      ["[2]", " [1].", "[2] because", "It is [2]"].map { choice?.parse($0) } == [
        "[2]", "[1]", "[2]", "[2]",
      ])
    #expect(tag.parse("") == nil)
    #expect(rating.parse(" 4.") == "4")
    #expect(rating.parse("about 2 of 5") == "2")
    #expect(rating.parse("9, or 3") == nil)
    #expect(rating.parse("none") == nil)
    #expect(subject.parse("\n  late  for lunch \nMore") == "late for lunch")
    #expect(subject.parse(" \n") == nil)
  }

  @Test("every answer is read back from its own completion")
  func completions() throws {
    for task in TaskCatalogue.builtIn.tasks where task.kind != .text {
      let candidates = try #require(task.candidates)
      #expect(candidates.compactMap(task.parse) == task.answers ?? [])
      #expect(candidates.allSatisfy { $0.hasPrefix(" ") && !$0.hasPrefix("  ") })
    }
    #expect(subject.candidates == nil)
  }

  @Test("scores choose the likeliest label and the median rating")
  func scores() throws {
    let label = try #require(tag.answer(logProbabilities: [-3, -1, -2, -9, -9, -9, -9, -9]))
    #expect(label.output == "tense")
    let logs = [0.3, 0.05, 0.25, 0.2, 0.2].map { log($0) - 50 }
    let score = try #require(rating.answer(logProbabilities: logs))
    #expect(score.output == "3")
    #expect(abs(score.probability - 0.25) < 1e-12)
    #expect(rating.answer(logProbabilities: [0]) == nil)
    #expect(rating.answer(logProbabilities: .init(repeating: -.infinity, count: 5)) == nil)
  }
}
