// What the demo says while it runs: lines that stay, and one line that is rewritten in place.

import Foundation
import Synchronization

/// Standard output. On a terminal progress is one line rewritten in place; elsewhere it is a plain
/// line every few seconds.
final class Console: Sendable {
  private struct State {
    var showsProgress = false
    var lastPlain: ContinuousClock.Instant?
    var lastText = ""
  }

  let isTerminal: Bool
  private let state = Mutex(State())
  private static let plainInterval: Duration = .seconds(5)

  init() { isTerminal = isatty(STDOUT_FILENO) == 1 }

  /// Columns that a line may have.
  var width: Int {
    var size = winsize()
    guard isTerminal, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col >= 60 else {
      return 160
    }
    return Int(size.ws_col)
  }

  func say(_ text: String = "") {
    state.withLock { state in
      endProgress(&state)
      write(text + "\n")
    }
  }

  /// The title of a part of the demo.
  func heading(_ text: String) { say(isTerminal ? "\n\u{1B}[1m\(text)\u{1B}[0m" : "\n\(text)") }

  /// Shows how far something is; `fraction` from 0 to 1 where it is known.
  func progress(_ text: String, fraction: Double?) {
    let bar = fraction.map(Self.bar) ?? "  …"
    state.withLock { state in
      if isTerminal {
        write("\r\u{1B}[2K" + String("  \(bar) \(text)".prefix(max(20, width - 1))))
        state.showsProgress = true
        return
      }
      let now = ContinuousClock.now
      if let last = state.lastPlain, now - last < Self.plainInterval || text == state.lastText {
        return
      }
      state.lastPlain = now
      state.lastText = text
      write("  \(text)\n")
    }
  }

  /// Removes the progress line.
  func endProgress() { state.withLock { endProgress(&$0) } }

  private func endProgress(_ state: inout State) {
    if state.showsProgress { write("\r\u{1B}[2K") }
    state.showsProgress = false
    state.lastPlain = nil
  }

  private static func bar(_ fraction: Double) -> String {
    let width = 24
    let share = min(1, max(0, fraction))
    let full = Int((share * Double(width)).rounded(.down))
    let cells = String(repeating: "█", count: full) + String(repeating: "░", count: width - full)
    let percent = String(Int((share * 100).rounded(.down)))
    return cells + " " + String(repeating: " ", count: 3 - percent.count) + percent + " %"
  }

  private func write(_ text: String) {
    try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
  }
}

extension Duration {
  /// For people: "8 s", "2 min 5 s".
  var inWords: String {
    let seconds = Int(components.seconds)
    return seconds < 60 ? "\(seconds) s" : "\(seconds / 60) min \(seconds % 60) s"
  }
}
