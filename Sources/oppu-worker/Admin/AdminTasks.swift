// `admin tasks`: the task catalogue, and whether a task file can be taken.

import ArgumentParsing
import Foundation
import Personalization
import Worker

struct AdminTasks: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tasks", abstract: "The tasks that workers know.",
    subcommands: [TasksList.self, TasksShow.self, TasksValidate.self],
    defaultSubcommand: TasksList.self)
}

struct TasksList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Built-in tasks and those of the task file.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  func run() async throws {
    try await Failure.explain {
      try format.print(
        try options.load().catalogue().tasks, empty: "There are no tasks.",
        columns: [
          .init("task") { $0.name }, .init("kind") { $0.kind.rawValue },
          .init("fields") { $0.fields.map(\.name).joined(separator: ", ") },
          .init("what it is") { $0.description },
        ])
    }
  }
}

struct TasksShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "One task with its templates.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The task's name.") var task: String

  func run() async throws {
    try await Failure.explain {
      let found = try options.load().catalogue().task(named: task)
      try format.print(
        found,
        lines: [
          ("task", found.name), ("kind", found.kind.rawValue), ("what it is", found.description),
          ("fields", found.fields.map(\.name).joined(separator: ", ")),
          ("prompt", found.prompt.source), ("history item", found.historyItem.source),
          ("retrieval searches by", found.query.source),
          ("an item is found by", found.historyQuery.source),
          ("the model describes", found.profile.source),
          ("answers", found.answers?.joined(separator: ", ") ?? "free text"),
          ("tokens of an answer at most", "\(found.maximumTokens)"),
          ("metrics", found.metrics.map(\.rawValue).joined(separator: ", ")),
          (
            "LaMP's questions",
            found.lamp?.query.map(\.pattern.source).joined(separator: "\n") ?? ""
          ),
          ("LaMP's items", found.lamp?.historyText ?? ""),
        ].filter { !$0.1.isEmpty })
    }
  }
}

struct TasksValidate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Check a task file; exit code 3 where it cannot be taken.")

  @OptionGroup var format: OutputOptions
  @Argument(help: "The YAML file.", completion: .file(extensions: ["yaml", "yml"])) var file: String

  private struct Finding: Encodable {
    let file: String
    let ok: Bool
    let tasks: [String]
    /// Why it cannot be taken.
    let error: String?
  }

  func run() async throws {
    var finding: Finding
    do {
      let tasks = try TaskCatalogue.loading(path: file)
      finding = Finding(file: file, ok: true, tasks: tasks.names, error: nil)
    } catch {
      finding = Finding(file: file, ok: false, tasks: [], error: "\(error)")
    }
    switch format.output {
    case .text:
      if let error = finding.error {
        Failure.say(error)
      } else {
        print("\(file): \(finding.tasks.joined(separator: ", "))")
      }
    case .json, .jsonl:
      Swift.print(try OutputOptions.json(finding, pretty: format.output == .json))
    }
    if !finding.ok { throw ExitCode(3) }
  }
}
