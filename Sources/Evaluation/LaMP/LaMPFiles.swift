// The files of a folder, by the names under which this project, LaMP and OPPU publish them.

import Foundation
import JSON
import Personalization

/// Which files of a folder hold the questions, the known answers and the users for the task adapter.
public struct LaMPFiles: Sendable, Equatable {
  /// Questions with their histories, or users with a history and queries each.
  public let questions: String
  /// The known answers; nil where they stand beside the queries, or are not published.
  public let outputs: String?
  /// Users for the task adapter; nil where the folder has none.
  public let others: String?
  /// Whether `questions` holds users, as OPPU's files do.
  public let holdsUsers: Bool

  /// LaMP's splits.
  public enum Split: String, Sendable, CaseIterable { case train, dev, test }

  /// The files of a folder, nil where it has no questions.
  /// - Parameter split: LaMP's split to take; nil: `questions.json`, else the dev split, else OPPU's
  ///   users with long histories, else the test split.
  public init?(folder: String, split: Split? = nil) {
    let names = Set((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
    let others = ["others.json", "user_others.json"].first(where: names.contains)
    func take(_ questions: String, _ outputs: String?, users: Bool = false) -> LaMPFiles? {
      guard names.contains(questions) else { return nil }
      return LaMPFiles(
        questions: questions, outputs: outputs, others: others, holdsUsers: users)
    }
    func take(_ split: Split) -> LaMPFiles? {
      let outputs = "\(split.rawValue)_outputs.json"
      // The test split's answers are LaMP's own.
      let isOpen = split != .test || names.contains(outputs)
      return take("\(split.rawValue)_questions.json", isOpen ? outputs : nil)
    }
    let longest = names.filter { $0.hasPrefix("user_top_") && $0.hasSuffix("_history.json") }.max()
    let found =
      if let split { take(split) } else {
        take("questions.json", "outputs.json") ?? take(.dev)
          ?? longest.flatMap { take($0, nil, users: true) } ?? take(.test)
      }
    guard let found else { return nil }
    self = found
  }

  private init(questions: String, outputs: String?, others: String?, holdsUsers: Bool) {
    self.questions = questions
    self.outputs = outputs
    self.others = others
    self.holdsUsers = holdsUsers
  }

  /// This project's names.
  static let own = LaMPFiles(
    questions: "questions.json", outputs: "outputs.json", others: "others.json", holdsUsers: false)

  /// All that are there.
  public func paths(in folder: String) -> [String] {
    [questions, outputs, others].compactMap { $0.map { "\(folder)/\($0)" } }
      .filter(FileManager.default.fileExists)
  }
}

extension TaskCatalogue {
  /// LaMP's names that stand for one of several tasks here: its second task was once the category of
  /// an article, and is the tag of a film.
  public static let sharedNames = ["LaMP_2": ["LaMP_2M", "LaMP_2N"]]

  /// The task of a folder of files: the one of that name, or of those that share it the one whose
  /// pattern the first question has.
  /// - Throws: ``UnknownTaskError``; ``LaMPFileError`` where the questions are of none of them.
  public func task(named name: String, of files: LaMPFiles, in folder: String) throws
    -> TaskDefinition
  {
    guard self[name] == nil, let shared = Self.sharedNames[name] else {
      return try task(named: name)
    }
    let tasks = shared.compactMap { self[$0] }
    let text = try Self.firstInput(files, folder)
    let fitting = tasks.first { task in
      task.lamp?.query.contains { $0.pattern.values(in: text ?? "") != nil } ?? false
    }
    guard let fitting else {
      throw LaMPFileError(
        file: "\(folder)/\(files.questions)",
        problem: "its first question is of none of the tasks that \(name) stands for: "
          + tasks.map(\.name).joined(separator: ", "))
    }
    return fitting
  }

  private static func firstInput(_ files: LaMPFiles, _ folder: String) throws -> String? {
    /// Ends the reading early.
    struct Enough: Error {}
    guard let file = try? LaMPText(path: "\(folder)/\(files.questions)") else { return nil }
    var text: String?
    do {
      _ = try file.elements { value in
        let question = files.holdsUsers ? value["query"]?.array?.first ?? value["query"] : value
        text = question?["input"]?.string
        if text != nil { throw Enough() }
      }
    } catch is Enough {}
    return text
  }
}
