// Ctrl-C and its relatives: the first one ends the demo in order, the second one at once.

import Dispatch
import Foundation
import Synchronization

/// The demo was told to stop.
struct Interrupted: Error {}

/// Catches SIGINT, SIGTERM and SIGHUP for as long as it lives.
final class Interruption {
  /// Has one element once the first signal has come.
  let first: AsyncStream<Void>
  private var sources: [any DispatchSourceSignal] = []

  /// - Parameter onSecond: called when a second signal comes; the process ends with 130 after it.
  init(onSecond: @escaping @Sendable () -> Void) {
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    first = stream
    let queue = DispatchQueue(label: "oppu.demo.signals")  // serial: one handler at a time
    let arrivals = Arrivals(
      onFirst: { continuation.yield() },
      onSecond: {
        onSecond()
        _exit(130)
      })
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { arrivals.add() }
      source.resume()
      sources.append(source)
    }
  }

  deinit { for source in sources { source.cancel() } }
}

/// Counts arrivals; used from one serial queue.
private final class Arrivals: Sendable {
  private let count = Mutex(0)
  private let onFirst: @Sendable () -> Void
  private let onSecond: @Sendable () -> Void

  init(onFirst: @escaping @Sendable () -> Void, onSecond: @escaping @Sendable () -> Void) {
    self.onFirst = onFirst
    self.onSecond = onSecond
  }

  func add() {
    let number = count.withLock { count in
      count += 1
      return count
    }
    if number == 1 { onFirst() } else { onSecond() }
  }
}
