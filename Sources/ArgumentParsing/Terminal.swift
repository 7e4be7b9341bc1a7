// The terminal: its width, the cells that a text takes, and writing to it or to what stands in for it.

import Foundation

enum Terminal {
  /// The columns to write in: `COLUMNS`, or the terminal's, or 80 where there is none.
  static func columns(of descriptor: Int32) -> Int {
    if let text = ProcessInfo.processInfo.environment["COLUMNS"], let columns = Int(text),
      columns > 0
    {
      return columns
    }
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  /// The cells that a text takes in a terminal, as `wcwidth` counts them.
  static func cells(_ text: some StringProtocol) -> Int {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.utf8.count }
    return text.unicodeScalars.reduce(0) { $0 + cells($1) }
  }

  private static func cells(_ scalar: Unicode.Scalar) -> Int {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .control: return 0
    case .format where scalar != "\u{AD}": return 0
    default: break
    }
    // East Asian wide and full-width characters (Unicode's UAX 11), and pictures.
    switch scalar.value {
    case 0x1160...0x11FF: return 0  // parts of Korean syllables, set over the part before
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xA960...0xA97C, 0xAC00...0xD7A3,
      0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F, 0xFF01...0xFF60, 0xFFE0...0xFFE6,
      0x16FE0...0x18CFF, 0x1B000...0x1B2FF, 0x20000...0x3FFFD:
      return 2
    default: return scalar.properties.isEmojiPresentation ? 2 : 1
    }
  }

  /// Writes all of a text and the end of a line; a reader that has gone away is no failure.
  static func write(_ text: String, to descriptor: Int32) {
    guard !text.isEmpty else { return }
    fflush(nil)
    signal(SIGPIPE, SIG_IGN)
    var bytes = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        bytes = bytes.dropFirst(count)
      } else if errno == EAGAIN {
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
      } else if errno != EINTR {
        return
      }
    }
  }

  /// A text in lines that end before a column; all but the first, which begins at `start`, are
  /// indented.
  ///
  /// Words that are longer are broken after commas only. Lines that begin with spaces or have
  /// several in a row are kept: somebody set them so.
  static func wrap(
    _ text: String, columns: Int, indentation: Int = 0, from start: Int? = nil
  ) -> String {
    let newLine = "\n" + String(repeating: " ", count: indentation)
    var column = start ?? indentation
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      defer { column = indentation }
      if isSet(line) { return String(line) }
      var wrapped = ""
      for word in line.split(separator: " ") {
        let isLong = cells(word) > columns - indentation
        let pieces = isLong ? word.replacing(",", with: ", ").split(separator: " ") : [word]
        for (number, piece) in pieces.enumerated() {
          let (cells, space) = (cells(piece), number == 0 && !wrapped.isEmpty ? 1 : 0)
          let isFull = !wrapped.isEmpty && column + space + cells > columns
          wrapped += (isFull ? newLine : space == 1 ? " " : "") + piece
          column = (isFull ? indentation : column + space) + cells
        }
      }
      return wrapped
    }.joined(separator: newLine)
  }

  /// Whether a line is laid out by hand.
  static func isSet(_ line: some StringProtocol) -> Bool {
    line.hasPrefix(" ") || line.hasPrefix("\t") || line.contains("  ")
  }
}
