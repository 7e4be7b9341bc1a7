// The report as one HTML file that needs nothing beside it: no script, no font, no network.

import Foundation

/// An evaluation of one or several tasks as a page for people: a summary in words first, then a
/// table over the tasks, a section per task with its plots and numbers, and how it was made.
///
/// The page is made of escaped text only, whatever labels and user ids hold; it reads on a phone,
/// on a wide screen, in print, in dark mode and without colours.
public struct HTMLReport: Sendable {
  public let title: String
  let findings: [Findings]

  /// - Parameter results: one or several tasks, in the order of the page.
  public init(_ results: [EvaluationResults], title: String = "Evaluation") {
    self.title = title
    findings = results.map(Findings.init)
  }

  /// The whole file.
  public var html: String {
    let sections = findings.enumerated().map { section($1, number: $0 + 1) }
    let page: Markup = """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8"/>
      <meta name="viewport" content="width=device-width, initial-scale=1"/>
      <meta name="color-scheme" content="light dark"/>
      <title>\(title)</title>
      <style>\(StyleSheet.page)</style>
      </head>
      <body>
      <main>
      <header>
      <h1>\(title)</h1>
      <p class="meta">\(metaLine)</p>
      </header>
      \(summary)
      \(sections)
      \(methods)
      </main>
      </body>
      </html>

      """
    return page.string
  }

  /// Writes the page into a file, whole or not at all.
  public func write(to file: URL) throws {
    try Data(html.utf8).write(to: file, options: .atomic)
  }

  /// Model, size and date, in a line.
  private var metaLine: String {
    func shared(_ texts: [String]) -> [String] {
      let all = Set(texts)
      return all.count == 1 ? Array(all) : []
    }
    let users = findings.map { $0.results.users.done.count }.reduce(0, +)
    let queries = findings.map(\.queries).reduce(0, +)
    let dates = findings.map { $0.results.provenance.finished ?? $0.results.provenance.started }
    return
      (shared(findings.map(\.results.provenance.model.name))
      + [
        NumberText.count(findings.count, "task", "tasks"),
        NumberText.count(users, "user", "users"),
        NumberText.count(queries, "query", "queries"),
      ] + (dates.max().map { [Self.day($0)] } ?? [])).joined(separator: " · ")
  }

  static func day(_ date: Date) -> String { String(date.formatted(.iso8601).prefix(10)) }

  static func time(_ date: Date) -> String {
    date.formatted(.iso8601).replacing("T", with: " ").replacing("Z", with: " UTC")
  }

  // MARK: - A task

  private func section(_ task: Findings, number: Int) -> Markup {
    let id = "task-\(number)"
    let results = task.results
    // A report of one task has said it above.
    var parts = [
      Markup.when(findings.count > 1 && !task.isStreamingOnly, "<p>\(task.words)</p>\n")
    ]
    if !results.users.leftOut.isEmpty { parts.append(leftOut(results.users)) }
    if !results.notes.isEmpty { parts.append(notes(results.notes)) }

    var figures = results.metrics.enumerated().compactMap {
      task.armsFigure($1, id: "\(id)-arms-\($0 + 1)")
    }
    figures += [
      task.differencesFigure(id: "\(id)-differences"), task.activityFigure(id: "\(id)-activity"),
      task.shiftFigure(id: "\(id)-shift"), task.learningFigure(id: "\(id)-learning"),
    ].compactMap(\.self)
    figures += results.studies.enumerated().compactMap {
      task.studyFigure($1, id: "\(id)-study-\($0 + 1)")
    }
    if !figures.isEmpty {
      parts.append("<div class=\"figures\">\n\(figures.map(\.markup))</div>\n")
    }
    for (index, study) in results.streaming.enumerated() {
      parts.append(streaming(task, study, id: "\(id)-stream-\(index + 1)"))
    }
    return """
      <section id="\(id)" class="task">
      <h2>\(results.task)</h2>
      <p class="meta">\(size(task))</p>
      \(parts)</section>

      """
  }

  private func size(_ task: Findings) -> String {
    let results = task.results
    return [
      "\(results.kind) task", NumberText.count(results.users.done.count, "user", "users"),
      NumberText.count(task.queries, "query", "queries"),
      task.isStreamingOnly
        ? "\(NumberText.seconds(results.streaming.flatMap(\.policies).map(\.trainingSeconds).reduce(0, +))) of training"
        : "\(NumberText.seconds(results.arms.values.map(\.seconds).reduce(0, +))) of computing",
    ].joined(separator: " · ")
  }

  private func streaming(_ task: Findings, _ study: StreamingStudy, id: String) -> Markup {
    let figures = task.streamingFigures(study, id: id)
    guard !figures.isEmpty else { return "" }
    let size =
      "\(NumberText.count(study.users, "user", "users")) · "
      + NumberText.count(study.events, "event", "events")
    return """
      <section class="stream">
      <h3>Streaming: \(study.title)</h3>
      <p class="meta">\(size) · every event is predicted before it is learned</p>
      <div class="figures">
      \(figures.map(\.markup))</div>
      </section>

      """
  }

  private func leftOut(_ users: EvaluatedUsers) -> Markup {
    let done = users.done.count
    let all = done + users.leftOut.count
    let items = users.leftOut.map { entry -> Markup in
      "<li><bdi>\(entry.user)</bdi>: \(entry.reason)</li>\n"
    }
    return """
      <details class="aside"><summary>\(NumberText.count(done)) of \
      \(NumberText.count(all, "user was", "users were")) done; \
      \(NumberText.count(users.leftOut.count)) left out</summary>
      <ul>
      \(items)</ul>
      <p>Done: <bdi>\(users.done.joined(separator: ", "))</bdi></p></details>

      """
  }

  private func notes(_ notes: [DataNote]) -> Markup {
    let items = notes.map { note -> Markup in
      "<li><code>\(note.file)</code>\(note.row.map { ", row \(NumberText.count($0))" } ?? ""): \(note.text)</li>\n"
    }
    return """
      <details class="aside"><summary>\
      \(NumberText.count(notes.count, "problem", "problems")) of the data</summary>
      <ul>
      \(items)</ul></details>

      """
  }
}
