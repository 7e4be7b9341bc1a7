// A way to a server on this machine that can be made a bad one.

import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A TCP proxy on 127.0.0.1 that holds back, slows, refuses or cuts what goes through it. For tests.
public final class LoopbackProxy: Sendable {
  public enum Mode: Sendable, Equatable {
    /// Bytes pass as they come.
    case open
    /// Connections are taken and stay open, and not a byte passes.
    case held
    /// Every piece of up to 64 KiB takes this much longer, both ways.
    case slow(Duration)
    /// New connections are closed at once.
    case refusing
  }

  private struct State {
    var mode = Mode.open
    var connections: [ObjectIdentifier: Connection] = [:]
    var isStopped = false
  }

  /// Where clients connect.
  public let port: Int
  private let target: Int
  private let isKafka: Bool
  private let hidden: KafkaTopicHiding?
  private let listener: Int32
  private let state = Mutex(State())

  /// - Parameters:
  ///   - isKafka: answers of a broker that name the target's port are made to name this one's: a client asks a
  ///     broker where it is, and would go past the proxy.
  ///   - hiddenTopics: clients that ask a broker for topics whose names begin so hear that there are none, and a
  ///     broker that makes what it is asked for makes none of them.
  /// - Throws: `DevelopmentServerError.port`.
  public init(to target: Int, isKafka: Bool = false, hiddenTopics: String? = nil) throws {
    self.target = target
    self.isKafka = isKafka
    hidden = hiddenTopics.map(KafkaTopicHiding.init)
    signal(SIGPIPE, SIG_IGN)
    (listener, port) = try LocalPort.listen()
    let thread = Thread { [self] in acceptClients() }
    thread.name = "oppu.proxy"
    thread.start()
  }

  public func set(_ mode: Mode) { state.withLock { $0.mode = mode } }

  /// Ends every connection there is.
  public func cut() {
    for connection in state.withLock({ Array($0.connections.values) }) { connection.cut() }
  }

  public func stop() {
    state.withLock { $0.isStopped = true }
    shutdown(listener, Int32(SHUT_RDWR))
    cut()
  }

  // MARK: Connections

  /// Both ends. The descriptors are closed once neither direction uses them.
  private final class Connection: Sendable {
    let client: Int32
    let server: Int32

    init(client: Int32, server: Int32) {
      self.client = client
      self.server = server
    }

    deinit {
      close(client)
      close(server)
    }

    func cut() {
      shutdown(client, Int32(SHUT_RDWR))
      shutdown(server, Int32(SHUT_RDWR))
    }
  }

  private func acceptClients() {
    while true {
      let client = accept(listener, nil, nil)
      guard client >= 0 else {
        if errno == EINTR || errno == ECONNABORTED { continue }
        close(listener)
        return
      }
      guard state.withLock({ $0.mode != .refusing && !$0.isStopped }),
        let server = LocalPort.connect(target)
      else {
        close(client)
        continue
      }
      let connection = Connection(client: client, server: server)
      state.withLock { $0.connections[ObjectIdentifier(connection)] = connection }
      Thread { [self] in
        if let hidden {
          forwardFrames(from: client, to: server) { hidden.question($0) }
        } else {
          forward(from: client, to: server)
        }
        connection.cut()
        state.withLock { $0.connections[ObjectIdentifier(connection)] = nil }
      }.start()
      Thread { [self] in
        if isKafka {
          forwardFrames(from: server, to: client) { [self] in
            hidden?.answer(renamed($0)) ?? renamed($0)
          }
        } else {
          forward(from: server, to: client)
        }
        connection.cut()
      }.start()
    }
  }

  private func forward(from source: Int32, to sink: Int32) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(source, &buffer, buffer.count)
      guard count > 0, passes(), Self.write(sink, buffer[..<count]) else { return }
    }
  }

  /// Whole questions or answers of Kafka's, one after the other: four bytes of length, then as many.
  private func forwardFrames(
    from source: Int32, to sink: Int32, _ change: ([UInt8]) -> [UInt8]
  ) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var waiting: [UInt8] = []
    while true {
      let count = read(source, &buffer, buffer.count)
      guard count > 0 else { return }
      waiting += buffer[..<count]
      var start = 0
      while waiting.count - start >= 4 {
        let size = 4 + waiting[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
        guard waiting.count - start >= size else { break }
        let frame = change(Array(waiting[start..<start + size]))
        guard passes(), Self.write(sink, frame[...]) else { return }
        start += size
      }
      waiting.removeFirst(start)
    }
  }

  /// Waits as the mode wants it; false once the proxy is stopped.
  private func passes() -> Bool {
    while true {
      let (mode, isStopped) = state.withLock { ($0.mode, $0.isStopped) }
      if isStopped { return false }
      switch mode {
      case .held: usleep(5_000)
      case .slow(let pause):
        usleep(useconds_t(pause / .microseconds(1)))
        return true
      case .open, .refusing: return true
      }
    }
  }

  private func renamed(_ answer: [UInt8]) -> [UInt8] {
    var answer = answer
    let name = Array("127.0.0.1".utf8) + Self.bytes(target)
    let other = Array("127.0.0.1".utf8) + Self.bytes(port)
    while let found = answer.firstRange(of: name) { answer.replaceSubrange(found, with: other) }
    return answer
  }

  private static func bytes(_ port: Int) -> [UInt8] {
    [0, 0, UInt8(truncatingIfNeeded: port >> 8), UInt8(truncatingIfNeeded: port)]
  }

  private static func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, 0) }
      guard sent > 0 else { return false }
      rest = rest.dropFirst(sent)
    }
    return true
  }
}
