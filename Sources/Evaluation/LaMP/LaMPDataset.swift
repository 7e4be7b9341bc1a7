// LaMP's files: users with their histories and the questions that an evaluation asks for them.

import Foundation
import JSON
import Personalization
import RandomNumbers

/// One question to be answered as a user would.
public struct LaMPQuery: Codable, Sendable, Hashable {
  /// The file's, as text.
  public var id: String
  /// The task's fields, taken out of the question's text.
  public var input: [String: JSONValue]
  /// What the user really answered, in the task's form; nil where nobody tells.
  public var gold: String?
  /// When it was asked, where the file tells.
  public var occurredAt: Date?

  /// - Parameter gold: in the task's form; nil where nobody tells.
  public init(id: String, input: [String: JSONValue], gold: String?, occurredAt: Date? = nil) {
    self.id = id
    self.input = input
    self.gold = gold
    self.occurredAt = occurredAt
  }
}

/// One user of a LaMP folder.
public struct LaMPUser: Codable, Sendable, Hashable {
  /// The file's `user_id`; without one each question is a user of its own, called by its id.
  public var id: String
  /// Oldest first; as in the file where it tells no dates. `eventID` is the file's item id.
  public var history: [HistoryItem]
  public var queries: [LaMPQuery]

  public init(id: String, history: [HistoryItem], queries: [LaMPQuery]) {
    self.id = id
    self.history = history
    self.queries = queries
  }
}

/// A problem with one row of a LaMP file, and what was done about it: reading went on.
public struct LaMPNote: Codable, Sendable, Hashable, CustomStringConvertible {
  /// The file's name without its folder.
  public let file: String
  /// The row in the file, from 1; nil where the note is about the file.
  public let row: Int?
  /// The row's id, where it has one.
  public let id: String?
  /// What is wrong, and what was done.
  public let problem: String

  public var description: String {
    var place = file
    if let row { place += ", row \(row)" }
    if let id { place += " (id \(id))" }
    return "\(place): \(problem)"
  }
}

/// Why a LaMP folder cannot be used at all.
public struct LaMPFileError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// The file's name or path.
  public let file: String
  /// Goes on after the file and a colon.
  public let problem: String

  public var description: String { "\(file): \(problem)" }
  public var errorDescription: String? { description }
}

/// A folder in LaMP's format: `questions.json`, `outputs.json` and, where there is one,
/// `others.json` with users who are no targets, for the task adapter. Or as LaMP and OPPU publish them,
/// see ``LaMPFiles``.
///
/// ```
/// questions.json  [{"id", "user_id"?, "date"?, "input", "profile": [{"id", …fields, "date"?}]}]
/// outputs.json    {"task", "golds": [{"id", "output"}]}
/// others.json     [{"user_id", "profile": […], "query": [{"id", "input", "gold"}]}]
/// ```
///
/// Ids may be strings or numbers. A row that cannot be used is left out with a note; a file that
/// cannot be used is an error.
public struct LaMPDataset: Sendable {
  /// The queries' task.
  public let task: TaskDefinition
  /// The task of the histories' items: `task`, or another one where the files' items have no answer
  /// to it (a paper without a citation is no question of LaMP_1). What histories train and how
  /// their lines stand in a prompt is this one's.
  public let historyTask: TaskDefinition
  /// What `outputs.json` calls the task; predictions are written under the same name.
  public let taskName: String
  /// The target users, in order of their first question, each with at least one query.
  public let users: [LaMPUser]
  /// Users for the task adapter; empty without `others.json`.
  public let others: [LaMPUser]
  /// The input fields that examples made of a history are to be asked with: those that the queries
  /// tell, for a history may tell more (an article's title, say); all of `historyTask` where that is
  /// another task.
  public let queryFields: Set<String>
  /// What was left out or mended while reading.
  public let notes: [LaMPNote]
  /// Every question's id in its file's form (a string or a number), in the file's order.
  private let questionIDs: [(text: String, original: JSONValue)]

  /// Reads a folder.
  ///
  /// - Parameters:
  ///   - catalogue: where the task's `history_task` is looked up.
  ///   - split: of LaMP's files, which to take.
  /// - Throws: `LaMPFileError` where a file is missing, is no JSON or no list, or where no question
  ///   of it can be used; `UnknownTaskError` for a `history_task` that the catalogue lacks.
  public init(
    folder: String, task: TaskDefinition, catalogue: TaskCatalogue = .builtIn,
    split: LaMPFiles.Split? = nil
  ) throws {
    if let split, LaMPFiles(folder: folder, split: split) == nil {
      throw LaMPFileError(
        file: "\(folder)/\(split.rawValue)_questions.json", problem: "there is no such file")
    }
    var reader = try LaMPReader(
      task: task, folder: folder, files: LaMPFiles(folder: folder, split: split) ?? .own,
      catalogue: catalogue)
    let golds = try reader.golds()
    let targets = try reader.targets(golds: golds)
    others = try reader.others()
    self.task = task
    historyTask = reader.historyTask
    taskName = golds?.task ?? reader.publishedName
    users = targets.users
    queryFields =
      reader.historyTask == task
      ? reader.queryFields : Set(reader.historyTask.fields.map(\.name))
    notes = reader.notes.list
    questionIDs = targets.ids
  }

  /// The folder with some of its other users in the place of the evaluated ones: settings are chosen
  /// on these, so that the ones reported on have no part in it.
  ///
  /// - Parameter seed: decides which third of the other users with a query is taken.
  /// - Throws: `LaMPFileError` where there are fewer than three.
  public func development(seed: UInt64) throws -> LaMPDataset {
    var generator = SplitMix64(seed: seed)
    let able = others.filter { !$0.queries.isEmpty && !$0.history.isEmpty }
    let chosen = Set(able.map(\.id).shuffled(using: &generator).prefix(able.count / 3))
    guard !chosen.isEmpty else {
      throw LaMPFileError(
        file: "others.json",
        problem: "has \(able.count) users with a query and a history; "
          + "a development set takes a third of them")
    }
    return LaMPDataset(
      self, users: able.filter { chosen.contains($0.id) },
      others: others.filter {
        !chosen.contains($0.id)
      })
  }

  private init(_ dataset: LaMPDataset, users: [LaMPUser], others: [LaMPUser]) {
    self.users = users
    self.others = others
    task = dataset.task
    historyTask = dataset.historyTask
    taskName = dataset.taskName
    queryFields = dataset.queryFields
    notes = dataset.notes
    questionIDs = users.flatMap { user in
      user.queries.map { (text: $0.id, original: .string($0.id)) }
    }
  }

  /// Answers in LaMP's submission format, `{"task", "golds": [{"id", "output"}]}`, in the order of
  /// the questions and with their ids as the file of known answers has them, else as the questions' has.
  ///
  /// - Parameter answers: by question id; questions without one are left out.
  public func submission(_ answers: [String: String]) -> Data {
    let golds: [JSONValue] = questionIDs.compactMap { question in
      answers[question.text].map { ["id": question.original, "output": .string($0)] }
    }
    let file: JSONValue = ["task": .string(taskName), "golds": .array(golds)]
    return Data((file.canonical + "\n").utf8)
  }
}
