// Reading the three files of a LaMP folder row by row.

import Foundation
import JSON
import Personalization

/// The problems met in a folder; of a file with very many only the first are kept.
struct LaMPNotes {
  private(set) var kept: [LaMPNote] = []
  private var counts: [String: Int] = [:]

  static let maximumPerFile = 200

  mutating func add(_ file: String, _ row: Int?, _ id: String?, _ problem: String) {
    counts[file, default: 0] += 1
    if counts[file, default: 0] <= Self.maximumPerFile {
      kept.append(LaMPNote(file: file, row: row, id: id, problem: problem))
    }
  }

  /// All that are kept, and for a file with more a note of how many.
  var list: [LaMPNote] {
    kept
      + counts.filter { $0.value > Self.maximumPerFile }.sorted { $0.key < $1.key }.map {
        LaMPNote(
          file: $0.key, row: nil, id: nil,
          problem: "\($0.value - Self.maximumPerFile) more problems of this kind")
      }
  }
}

/// Reads a folder's files, one after another, and collects notes.
struct LaMPReader {
  struct Golds {
    var task: String?
    var outputs: [String: JSONValue] = [:]
    /// The ids as the golds' file has them, a string or a number: what measures predictions looks
    /// them up so.
    var originals: [String: JSONValue] = [:]
    /// In the file's order, with their rows.
    var rows: [(id: String, row: Int)] = []
  }

  /// A row of a file, for notes.
  private struct Place {
    let file: String
    let row: Int
    var id: String?
  }

  /// What is known of a user while questions are read.
  private struct OpenUser {
    let id: String
    var history = LaMPHistory()
    var queries: [LaMPQuery] = []
    /// The profile as it stood in the user's first question, to see whether others have the same.
    var profile: JSONValue?
    var profilesDiffer = false
  }

  let task: TaskDefinition
  /// The task whose format histories have: another one where the files' items have no answer to
  /// `task`.
  let historyTask: TaskDefinition
  private let format: LaMPFormat
  private let historyFormat: LaMPFormat
  private let folder: URL
  private let files: LaMPFiles
  private(set) var notes = LaMPNotes()
  /// The fields that queries have told so far.
  private(set) var queryFields: Set<String> = []

  init(
    task: TaskDefinition, folder: String, files: LaMPFiles, catalogue: TaskCatalogue
  ) throws {
    self.task = task
    self.files = files
    self.folder = URL(fileURLWithPath: folder)
    format = try task.lamp ?? .plain(task.fields)
    var other: TaskDefinition?
    if let name = format.historyTask {
      let url = self.folder.appendingPathComponent(files.questions)
      if try !Self.hasAnswers(url, under: format.answerKeys) {
        other = try catalogue.task(named: name)
      }
    }
    historyTask = other ?? task
    historyFormat = try other.map { try $0.lamp ?? .plain($0.fields) } ?? format
  }

  /// Whether any of the first items of a file has one of the keys.
  private static func hasAnswers(_ url: URL, under keys: [String]) throws -> Bool {
    /// Ends the reading early.
    struct Enough: Error {}
    guard let text = try? LaMPText(path: url.path) else { return true }
    var (items, found) = (0, false)
    do {
      _ = try text.elements { question in
        for item in question["profile"]?.array ?? [] {
          items += 1
          found = found || keys.contains { item[$0]?.isNull == false }
          if found || items == 1_000 { throw Enough() }
        }
      }
    } catch is LaMPFileError {
      return true  // Told when the file is read.
    } catch is Enough {}
    return found
  }

  // MARK: Files

  /// Nil where no file has them.
  mutating func golds() throws -> Golds? {
    guard let file = files.outputs else { return nil }
    let document = try LaMPText(path: url(file).path).value()
    guard let list = document.array ?? document["golds"]?.array else {
      throw error(file, "expected an object with the list \"golds\", found \(document.kindName)")
    }
    var golds = Golds(task: document["task"]?.string)
    for (index, value) in list.enumerated() {
      let row = index + 1
      guard let id = identifier(value["id"]) else {
        notes.add(file, row, nil, "the gold has no id; left out")
        continue
      }
      guard let output = value["output"], !output.isNull else {
        notes.add(file, row, id, "the gold has no output; left out")
        continue
      }
      if let first = golds.outputs[id] {
        let same = first == output ? "the same" : "another"
        notes.add(
          file, row, id, "this id has a gold already, with \(same) output; the first counts")
        continue
      }
      golds.outputs[id] = output
      golds.originals[id] = value["id"]
      golds.rows.append((id, row))
    }
    if let name = golds.task, !names.contains(name) {
      notes.add(file, nil, nil, "these are golds of the task \(name), read as \(task.name)")
    }
    return golds
  }

  /// The names under which LaMP's files may know this task.
  private var names: [String] {
    TaskCatalogue.sharedNames.filter { $0.value.contains(task.name) }.map(\.key) + [task.name]
  }

  /// What LaMP calls the task where no file says it.
  var publishedName: String { names[0] }

  /// The target users, and every question's id in the form that predictions are to have.
  mutating func targets(
    golds: Golds?
  ) throws -> (users: [LaMPUser], ids: [(text: String, original: JSONValue)]) {
    files.holdsUsers ? try targetUsers() : try questions(golds: golds)
  }

  private mutating func targetUsers() throws
    -> (users: [LaMPUser], ids: [(text: String, original: JSONValue)])
  {
    let (users, ids) = try users(files.questions, needsGolds: false)
    let asked = users.filter { !$0.queries.isEmpty }
    guard !asked.isEmpty else {
      let first = notes.kept.first.map { "; the first problem is: \($0)" } ?? ""
      throw error(files.questions, "none of its \(users.count) users has a query\(first)")
    }
    return (asked, ids)
  }

  private mutating func questions(
    golds: Golds?
  ) throws -> (users: [LaMPUser], ids: [(text: String, original: JSONValue)]) {
    let file = files.questions
    var users: [OpenUser] = []
    var positions: [String: Int] = [:]
    var ids: [(text: String, original: JSONValue)] = []
    var seen: Set<String> = []
    var row = 0
    let isList = try LaMPText(path: url(file).path).elements { value in
      row += 1
      var place = Place(file: file, row: row)
      guard value.object != nil else {
        note(place, "expected an object, found \(value.kindName); left out")
        return
      }
      guard let original = value["id"], let id = identifier(original) else {
        note(place, "the question has no id; left out")
        return
      }
      place.id = id
      guard seen.insert(id).inserted else {
        note(place, "this id stands in the file already; left out")
        return
      }
      ids.append((id, golds?.originals[id] ?? original))
      let gold = golds?.outputs[id]
      guard gold != nil || golds == nil else {
        note(place, "\(files.outputs ?? "") has no gold for this question; left out")
        return
      }
      guard let user = owner(value["user_id"], question: id, place) else { return }
      guard let query = query(value, id: id, gold: gold, place) else { return }
      let position = positions[user] ?? users.count
      if position == users.count {
        positions[user] = position
        users.append(OpenUser(id: user))
      }
      users[position].queries.append(query)
      let profile = value["profile"]
      if users[position].profile == nil {
        read(profile, into: &users[position].history, place)
        // Without a user id no second question can have the same user.
        users[position].profile = value["user_id"] == nil ? .null : profile ?? .null
      } else if let profile, users[position].profile != profile {
        users[position].profilesDiffer = true
        read(profile, into: &users[position].history, place)
      }
    }
    guard isList else { throw error(file, "expected a list of questions") }
    for gold in golds?.rows ?? [] where !seen.contains(gold.id) {
      notes.add(
        files.outputs ?? "", gold.row, gold.id, "\(file) has no question of this id; left out")
    }
    guard !users.isEmpty else {
      let first = notes.kept.first.map { "; the first problem is: \($0)" } ?? ""
      throw error(file, "none of its \(row) questions can be used\(first)")
    }
    return (users.map { finished($0, file) }, ids)
  }

  mutating func others() throws -> [LaMPUser] {
    guard let file = files.others, FileManager.default.fileExists(atPath: url(file).path) else {
      return []
    }
    return try users(file, needsGolds: true).users
  }

  /// The users of a file that holds them, and the ids of their queries.
  private mutating func users(
    _ file: String, needsGolds: Bool
  ) throws -> (users: [LaMPUser], ids: [(text: String, original: JSONValue)]) {
    var users: [LaMPUser] = []
    var ids: [(text: String, original: JSONValue)] = []
    var seen: Set<String> = []
    var seenQueries: Set<String> = []
    var row = 0
    let isList = try LaMPText(path: url(file).path).elements { value in
      row += 1
      var place = Place(file: file, row: row)
      guard value.object != nil else {
        note(place, "expected an object, found \(value.kindName); left out")
        return
      }
      guard let id = identifier(value["user_id"]) else {
        note(place, "the user has no user_id; left out")
        return
      }
      place.id = id
      guard seen.insert(id).inserted else {
        note(place, "this user stands in the file already; left out")
        return
      }
      var user = OpenUser(id: id)
      read(value["profile"], into: &user.history, place)
      let queries = value["query"]?.array ?? value["query"].map { [$0] } ?? []
      for (index, item) in queries.enumerated() where !item.isNull {
        let name = "query \(index + 1)"
        guard let queryID = identifier(item["id"]) else {
          note(place, "\(name) has no id; left out")
          continue
        }
        guard seenQueries.insert(queryID).inserted else {
          note(place, "\(name): its id \(queryID) stands in the file already; left out")
          continue
        }
        let gold = (item["gold"] ?? item["output"]).flatMap { $0.isNull ? nil : $0 }
        guard gold != nil || !needsGolds else {
          note(place, "\(name) (id \(queryID)) has no gold; left out")
          continue
        }
        if let query = query(item, id: queryID, gold: gold, place, name: "\(name): ") {
          user.queries.append(query)
          ids.append((queryID, item["id"] ?? .string(queryID)))
        }
      }
      let done = finished(user, file)
      if done.history.isEmpty, done.queries.isEmpty {
        note(place, "the user has neither history nor queries that can be used; left out")
      } else {
        users.append(done)
      }
    }
    guard isList else { throw error(file, "expected a list of users") }
    return (users, ids)
  }

  private func url(_ file: String) -> URL { folder.appendingPathComponent(file) }

  private func error(_ file: String, _ problem: String) -> LaMPFileError {
    LaMPFileError(file: url(file).path, problem: problem)
  }

  private mutating func note(_ place: Place, _ problem: String) {
    notes.add(place.file, place.row, place.id, problem)
  }

  // MARK: Rows

  /// An id as text, or nil where it is neither a string nor a number.
  private func identifier(_ value: JSONValue?) -> String? {
    switch value {
    case .string(let text): text.isEmpty ? nil : text
    case .number, .integer: value?.plainText
    default: nil
    }
  }

  private mutating func owner(_ value: JSONValue?, question: String, _ place: Place) -> String? {
    guard let value, !value.isNull else { return question }
    if let id = identifier(value) { return id }
    note(place, "user_id is \(value.kindName), expected a string or a number; left out")
    return nil
  }

  private mutating func query(
    _ value: JSONValue, id: String, gold: JSONValue?, _ place: Place, name: String = ""
  ) -> LaMPQuery? {
    var input: [String: JSONValue]
    switch value["input"] {
    case .object(let members): input = members
    case .string(let text):
      guard let found = fields(in: text) else {
        let patterns = format.query.map { "\"\($0.pattern)\"" }.joined(separator: ", ")
        note(place, "\(name)its input has none of the task's patterns \(patterns); left out")
        return nil
      }
      input = found
    default:
      let found = value["input"]?.kindName ?? "nothing"
      note(place, "\(name)input is \(found), expected a string; left out")
      return nil
    }
    for problem in task.cutLongFields(&input) { note(place, name + problem) }
    do {
      let content = try task.validate(input: .object(input), output: gold)
      guard content.output != nil || gold == nil else {
        note(place, "\(name)the gold is empty; left out")
        return nil
      }
      queryFields.formUnion(content.input.keys)
      let date = value["date"].flatMap(LaMPDate.init)?.date
      return LaMPQuery(id: id, input: content.input, gold: content.output, occurredAt: date)
    } catch {
      note(place, "\(name)\(error); left out")
      return nil
    }
  }

  private func fields(in text: String) -> [String: JSONValue]? {
    for entry in format.query {
      guard let values = entry.pattern.values(in: text) else { continue }
      var fields: [String: JSONValue] = [:]
      for field in task.fields {
        if let template = entry.fields[field.name] {
          fields[field.name] = .string(template.render(values))
        } else if let value = values[field.name] {
          // A query's text may tell 5.0 where the items' number is 5.
          let isWhole = value.hasSuffix(".0") && value.dropLast(2).allSatisfy(\.isWholeNumber)
          fields[field.name] = .string(isWhole ? String(value.dropLast(2)) : value)
        }
      }
      return fields
    }
    return nil
  }

  /// Adds a profile's items that are not yet in the history.
  private mutating func read(
    _ profile: JSONValue?, into history: inout LaMPHistory, _ place: Place
  ) {
    guard let profile, let items = profile.array else {
      note(place, "profile is \(profile?.kindName ?? "missing"), expected a list; taken as empty")
      return
    }
    if items.isEmpty { note(place, "the history is empty") }
    for problem in history.add(items, task: historyTask, format: historyFormat) {
      note(place, problem)
    }
  }

  private mutating func finished(_ user: OpenUser, _ file: String) -> LaMPUser {
    var history = user.history
    if user.profilesDiffer {
      notes.add(
        file, nil, nil,
        "the questions of user \(user.id) have different profiles; their items are put together")
      // An item that is one of the questions with its answer would give that answer away.
      for query in user.queries {
        guard let gold = query.gold else { continue }
        for id in history.remove(input: query.input, output: gold) {
          notes.add(
            file, nil, nil,
            "user \(user.id): item \(id) is question \(query.id) with its answer; left out")
        }
      }
    }
    let items =
      historyFormat.choices.map { history.asChoices($0, task: historyTask) } ?? history.oldestFirst
    return LaMPUser(id: user.id, history: items, queries: user.queries)
  }
}
