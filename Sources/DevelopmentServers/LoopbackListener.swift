// A port of 127.0.0.1 on which this process takes connections.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// Takes connections on a free port of 127.0.0.1 and hands them on. For tests.
public final class LoopbackListener: Sendable {
  /// Where clients connect.
  public let port: Int
  private let descriptor: Int32

  /// - Throws: `DevelopmentServerError.port`.
  public init() throws {
    signal(SIGPIPE, SIG_IGN)
    (descriptor, port) = try LocalPort.listen()
  }

  /// Takes connections, also those that were made before, on a thread of its own until `stop`.
  ///
  /// - Parameter take: is given each connection's descriptor, which it closes; the next connection waits for it.
  public func start(_ take: @escaping @Sendable (Int32) -> Void) {
    let descriptor = descriptor
    let thread = Thread {
      while true {
        let client = accept(descriptor, nil, nil)
        if client >= 0 {
          take(client)
        } else if errno != EINTR, errno != ECONNABORTED {
          // Closed by who uses it: else another socket might get its number while it is still used.
          close(descriptor)
          return
        }
      }
    }
    thread.name = "oppu.listener"
    thread.start()
  }

  /// Takes no more connections. Those that were handed on stay.
  public func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  /// Sends all of these bytes; false where the other end is gone.
  public static func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, 0) }
      guard sent > 0 else { return false }
      rest = rest.dropFirst(sent)
    }
    return true
  }
}
