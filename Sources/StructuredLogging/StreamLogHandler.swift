// Lines on a file descriptor, as text for people or as JSON for programs.

import Foundation
import Synchronization

/// Writes each line whole, with one write(2).
///
/// Lines of one process never mix. Lines of several processes do not mix in a file opened with
/// O_APPEND, nor on a pipe while they have at most `PIPE_BUF` bytes (4,096 on Linux); inside a
/// longer one others' lines may appear. A slow reader is waited for. What cannot be written, for
/// nobody reads the pipe or the descriptor is closed, is dropped: a log ends no process. Characters
/// that would end the line or rule a terminal are escaped.
public struct StreamLogHandler: LogHandler {
  /// How a line is written.
  public enum Format: Sendable {
    /// `2026-11-28T16:30:00+0100 info label: key=value other="two words" message`: local time (`Z`
    /// in UTC), keys in order, a value in quotes where it is empty or has a space, `=` or a quote.
    case text
    /// An object a line: `time` (RFC 3339, UTC, milliseconds), `level`, `label`, `message` and
    /// `metadata`, an object of texts.
    case json
  }

  private let label: String
  private let fileDescriptor: Int32
  private let format: Format
  private static let lock = Mutex(())
  private static let universal = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

  /// - Parameter fileDescriptor: stays the caller's.
  public init(label: String, fileDescriptor: Int32 = STDERR_FILENO, format: Format = .text) {
    self.label = label
    self.fileDescriptor = fileDescriptor
    self.format = format
  }

  /// Text on standard error.
  public static func standardError(label: String) -> Self { Self(label: label) }

  public func log(level: Logger.Level, message: Logger.Message, metadata: Logger.Metadata) {
    var line = line(level, message, metadata, at: Date())
    line.withUTF8 { bytes in Self.lock.withLock { _ in write(UnsafeRawBufferPointer(bytes)) } }
  }

  func line(
    _ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata, at time: Date
  ) -> String {
    let values = metadata.sorted { $0.key < $1.key }
    switch format {
    case .text:
      let pairs = values.map { "\($0.key.word)=\($0.value.word) " }.joined()
      return time.formatted(Date.ISO8601FormatStyle(timeZone: .current))
        + " \(level.rawValue) \(label.escaped()): \(pairs)\(message.escaped())\n"
    case .json:
      let pairs = values.map { "\($0.key.json):\($0.value.json)" }.joined(separator: ",")
      return #"{"time":"\#(time.formatted(Self.universal))","level":"\#(level.rawValue)","#
        + #""label":\#(label.json),"message":\#(message.json),"metadata":{\#(pairs)}}"# + "\n"
    }
  }

  private func write(_ bytes: UnsafeRawBufferPointer) {
    // SIGPIPE comes to the thread that writes: it is held back, then taken away.
    var (pipe, before, noTime) = (sigset_t(), sigset_t(), timespec())
    sigemptyset(&pipe)
    sigaddset(&pipe, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &pipe, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    var written = 0
    while let start = bytes.baseAddress, written < bytes.count {
      let count = Foundation.write(fileDescriptor, start + written, bytes.count - written)
      if count > 0 {
        written += count
      } else if count < 0, errno == EAGAIN {
        var room = pollfd(fd: fileDescriptor, events: Int16(POLLOUT), revents: 0)
        poll(&room, 1, -1)
      } else if count == 0 || errno != EINTR {
        sigtimedwait(&pipe, nil, &noTime)
        return
      }
    }
  }
}
