// How the numbers were made: how to read them, settings, versions, machine and command.

import Foundation

extension HTMLReport {
  var methods: Markup {
    let settings = shared { $0.configuration.lines }
    let provenance = shared(Self.provenanceLines)
    let commands = findings.map { task -> Markup in
      "<dt>\(task.results.task)</dt><dd><code>\(task.results.provenance.commandLine)</code></dd>\n"
    }
    let files = findings.flatMap { task in
      task.results.provenance.data.map { file in
        [
          HTMLTable.Cell.text(task.results.task), .text(file.file), .text(file.sha256),
        ]
      }
    }
    let fileTable = HTMLTable(
      headers: [.text("Task"), .text("File"), .text("SHA-256")], rows: files)
    let dataFiles: Markup = """
      <details class="aside"><summary>Data files</summary>
      \(fileTable.markup(label: "Data files"))</details>
      """
    return """
      <section class="methods">
      <h2>How this was made</h2>
      <div class="prose">
      \(Self.reading)
      </div>
      <h3>Command</h3>
      <dl>
      \(commands)</dl>
      <div class="columns">
      <div>
      <h3>Model, versions and machine</h3>
      \(provenance.markup(label: "Model, versions and machine"))</div>
      <div>
      <h3>Settings</h3>
      \(settings.markup(label: "Settings"))</div>
      </div>
      \(Markup.when(!files.isEmpty, dataFiles))
      </section>

      """
  }

  private static let reading: Markup = """
    <p>A mark is an arm’s value over all its queries, a bar its 95 % interval. Intervals of
    differences are paired: both arms answer the same queries of the same users, and users and
    queries are resampled together. Two arms whose own bars overlap may still differ for certain;
    the interval of their difference decides. An arm is called better or worse where that interval
    excludes zero, and not certain where it does not.</p>
    <p>Differences are turned so that more is better, for errors too. The prompt-based arms are those
    that train nothing on the user. OPPU’s best variant and the best prompt-based arm are chosen on
    the queries they are compared on, which favours the side with more variants a little. With
    several tasks, expect one interval in twenty to miss. What stands above what at an activity
    level or after a shift is said of the values alone: such parts are small, and their bars long.</p>
    """

  private static func provenanceLines(_ results: EvaluationResults) -> [(
    path: String, text: String
  )] {
    let provenance = results.provenance
    var lines: [(path: String, text: String)] = [
      ("Model", provenance.model.name), ("Fingerprint", provenance.model.fingerprint),
      ("Seed", String(provenance.seed)), ("Machine", provenance.machine),
    ]
    lines += provenance.versions.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    lines.append(("Started", time(provenance.started)))
    lines.append(("Finished", provenance.finished.map(time) ?? "not finished"))
    return lines
  }

  /// A table of names and values: those that all tasks share once, the others by task.
  private func shared(_ lines: (EvaluationResults) -> [(path: String, text: String)]) -> HTMLTable {
    let all = findings.map { lines($0.results) }
    var paths: [String] = []
    var seen: Set<String> = []
    for line in all.flatMap(\.self) where seen.insert(line.path).inserted {
      paths.append(line.path)
    }
    let rows = paths.flatMap { path -> [[HTMLTable.Cell]] in
      let texts = all.map { lines in lines.first { $0.path == path }?.text }
      if let first = texts.first, let text = first, texts.allSatisfy({ $0 == text }) {
        return [[.text(path), .text(findings.count > 1 ? "all" : ""), .text(text)]]
      }
      return zip(findings, texts).compactMap { task, text in
        text.map { [.text(path), .text(task.results.task), .text($0)] }
      }
    }
    guard findings.count > 1 else {
      return HTMLTable(
        headers: [.text("Name"), .text("Value")], rows: rows.map { [$0[0], $0[2]] })
    }
    return HTMLTable(headers: [.text("Name"), .text("Task"), .text("Value")], rows: rows)
  }
}
