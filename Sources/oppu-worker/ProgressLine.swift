// Progress of long work on stderr: a bar that redraws on a terminal, a line now and then elsewhere.

import Foundation

final class ProgressLine {
  private let isTerminal = isatty(FileHandle.standardError.fileDescriptor) == 1
  private var lastShown = Date.distantPast
  private let width = 30
  private var isComplete = false

  /// A total of 0 is one that is not known.
  func show(_ done: Int, of total: Int, _ text: String) {
    // A pipe gets a line every ten seconds, a terminal ten pictures a second.
    let interval = isTerminal ? 0.1 : 10
    // The end is shown once, however often it is told of.
    let isEnd = done == total
    guard isEnd ? !isComplete : Date().timeIntervalSince(lastShown) >= interval else { return }
    isComplete = isEnd
    lastShown = Date()
    let filled = total > 0 ? width * done / total : 0
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    let line = "\(bar) \(done)\(total > 0 ? "/\(total)" : "")  \(text)"
    write(isTerminal ? "\r\u{1B}[K\(line)" : "\(line)\n")
  }

  func end() {
    if isTerminal { write("\n") }
  }

  private func write(_ text: String) {
    FileHandle.standardError.write(Data(text.utf8))
  }
}
