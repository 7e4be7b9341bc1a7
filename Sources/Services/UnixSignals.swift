// Signals of the process as calls on a queue of their own, whatever else is blocked.

import Foundation
import Synchronization

/// What asks a process to end.
public enum UnixSignal: Int32, Sendable {
  case sigint = 2
  case sigterm = 15

  var name: String { "\(self)".uppercased() }
}

/// Watches signals until it is stopped; what the process did with them before then holds again.
///
/// A handler writes the signal's number to a pipe that a dispatch source reads. A dispatch source
/// of the signals themselves sees none on Linux after their former action was restored once.
final class SignalWatch {
  /// Kept as long as the process lives: a handler may be about to write while a watch stops.
  private static let pipe = {
    var ends: [Int32] = [-1, -1]
    _ = Foundation.pipe(&ends)
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
    return (read: ends[0], write: ends[1])
  }()
  private static let isTaken = Atomic(false)

  private let queue = DispatchQueue(label: "services.signals")
  private let source: any DispatchSourceRead
  private var former: [(number: Int32, action: sigaction)] = []

  /// - Parameter handle: called for each signal, one call after the other.
  /// - Throws: ``ServiceGroupError/cannotRun(_:)``
  init(_ signals: [UnixSignal], _ handle: @escaping @Sendable (UnixSignal) -> Void) throws {
    guard Self.pipe.read >= 0, !Self.isTaken.exchange(true, ordering: .acquiring) else {
      throw ServiceGroupError.cannotRun("another group watches the signals, or no pipe can be had")
    }
    // What came when the last watch stopped is not for this one.
    while Self.next() != nil {}
    source = DispatchSource.makeReadSource(fileDescriptor: Self.pipe.read, queue: queue)
    source.setEventHandler {
      while let number = Self.next() { UnixSignal(rawValue: Int32(number)).map(handle) }
    }
    source.activate()
    for number in signals.map(\.rawValue) {
      var action = sigaction()
      sigaction(number, nil, &action)
      former.append((number, action))
      signal(number) { number in
        let before = errno
        var byte = UInt8(truncatingIfNeeded: number)
        write(SignalWatch.pipe.write, &byte, 1)
        errno = before
      }
    }
  }

  private static func next() -> UInt8? {
    var byte: UInt8 = 0
    return read(pipe.read, &byte, 1) == 1 ? byte : nil
  }

  func stop() {
    for index in former.indices { sigaction(former[index].number, &former[index].action, nil) }
    source.cancel()
    // A handler that is just running would read what is the next watch's.
    queue.sync {}
    Self.isTaken.store(false, ordering: .releasing)
  }
}
