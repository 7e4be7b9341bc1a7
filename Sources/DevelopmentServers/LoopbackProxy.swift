// A way to a server on this machine that can be made a bad one.

import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// Sees what goes through one connection of a proxy, and may change it.
///
/// Each direction has a thread of its own, which a call may keep waiting.
public protocol LoopbackObserver: Sendable {
  /// What the client sends: in pieces as they come, to a broker whole questions.
  ///
  /// - Returns: what to pass on; nil cuts the connection.
  func fromClient(_ bytes: [UInt8]) -> [UInt8]?

  /// What the server sends: in pieces as they come, of a broker whole answers.
  ///
  /// - Returns: what to pass on; nil cuts the connection.
  func fromServer(_ bytes: [UInt8]) -> [UInt8]?
}

extension LoopbackObserver {
  public func fromClient(_ bytes: [UInt8]) -> [UInt8]? { bytes }
  public func fromServer(_ bytes: [UInt8]) -> [UInt8]? { bytes }
}

/// Changes nothing.
private struct Passing: LoopbackObserver {}

/// A TCP proxy on 127.0.0.1 that holds back, slows, refuses, cuts or changes what goes through it. For tests.
public final class LoopbackProxy: Sendable {
  /// What becomes of connections and bytes.
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
    /// Ports in answers, and what is put in their place.
    var names: [Int: Int] = [:]
  }

  private let listener: LoopbackListener
  private let target: Int
  private let isKafka: Bool
  private let observer: @Sendable () -> any LoopbackObserver
  private let state = Mutex(State())

  /// - Parameters:
  ///   - isKafka: answers of a broker that name the target's port are made to name this one's: a client asks a
  ///     broker where it is, and would go past the proxy.
  ///   - observer: makes a connection's observer.
  /// - Throws: `DevelopmentServerError.port`.
  public init(
    to target: Int, isKafka: Bool = false,
    observer: (@Sendable () -> any LoopbackObserver)? = nil
  ) throws {
    self.target = target
    self.isKafka = isKafka
    self.observer = observer ?? { Passing() }
    listener = try LoopbackListener()
    if isKafka { rename([target: listener.port]) }
    listener.start { [self] in take($0) }
  }

  /// Where clients connect.
  public var port: Int { listener.port }

  /// Changes it for what comes from now on, on open connections too.
  public func set(_ mode: Mode) { state.withLock { $0.mode = mode } }

  /// A way to each broker of a cluster, in their order; whichever is asked where the others are names the ways to them.
  ///
  /// - Parameter observer: makes a connection's observer.
  /// - Throws: `DevelopmentServerError.port`.
  public static func before(
    brokers ports: [Int], observer: (@Sendable () -> any LoopbackObserver)? = nil
  ) throws -> [LoopbackProxy] {
    let proxies = try ports.map { try LoopbackProxy(to: $0, isKafka: true, observer: observer) }
    let names = Dictionary(
      zip(ports, proxies.map(\.port)), uniquingKeysWith: { first, _ in first })
    for proxy in proxies { proxy.rename(names) }
    return proxies
  }

  private func rename(_ ports: [Int: Int]) { state.withLock { $0.names = ports } }

  /// Ends every connection there is.
  public func cut() {
    for connection in state.withLock({ Array($0.connections.values) }) { connection.cut() }
  }

  /// Takes no more connections and ends those there are.
  public func stop() {
    state.withLock { $0.isStopped = true }
    listener.stop()
    cut()
  }

  // MARK: Connections

  /// Both ends. The descriptors are closed once neither direction uses them.
  private final class Connection: Sendable {
    let client: Int32
    let server: Int32
    let observer: any LoopbackObserver

    init(client: Int32, server: Int32, observer: any LoopbackObserver) {
      self.client = client
      self.server = server
      self.observer = observer
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

  private func take(_ client: Int32) {
    guard state.withLock({ $0.mode != .refusing && !$0.isStopped }),
      let server = LocalPort.connect(target)
    else {
      close(client)
      return
    }
    let connection = Connection(client: client, server: server, observer: observer())
    state.withLock { $0.connections[ObjectIdentifier(connection)] = connection }
    Thread { [self] in
      forward(from: client, to: server) { connection.observer.fromClient($0) }
      connection.cut()
      state.withLock { $0.connections[ObjectIdentifier(connection)] = nil }
    }.start()
    Thread { [self] in
      forward(from: server, to: client) { [self] in
        connection.observer.fromServer(isKafka ? renamed($0) : $0)
      }
      connection.cut()
    }.start()
  }

  private func forward(from source: Int32, to sink: Int32, _ change: ([UInt8]) -> [UInt8]?) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var waiting: [UInt8] = []
    while true {
      let count = read(source, &buffer, buffer.count)
      guard count > 0 else { return }
      waiting += buffer[..<count]
      for piece in isKafka ? Self.wholeFrames(of: &waiting) : [waiting] {
        guard passes(), let passed = change(piece), LoopbackListener.write(sink, passed[...]) else {
          return
        }
      }
      if !isKafka { waiting = [] }
    }
  }

  /// Questions to a broker and its answers are four bytes of length, then as many.
  private static func wholeFrames(of waiting: inout [UInt8]) -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var start = 0
    while waiting.count - start >= 4 {
      let size = 4 + waiting[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
      guard waiting.count - start >= size else { break }
      frames.append(Array(waiting[start..<start + size]))
      start += size
    }
    waiting.removeFirst(start)
    return frames
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
    let names = state.withLock { $0.names }
    let host = Array("127.0.0.1".utf8)
    for found in answer.ranges(of: host) where found.upperBound + 4 <= answer.count {
      let place = found.upperBound..<found.upperBound + 4
      guard let port = names[answer[place].reduce(0) { $0 << 8 | Int($1) }] else { continue }
      answer.replaceSubrange(
        place, with: [0, 0, UInt8(truncatingIfNeeded: port >> 8), UInt8(truncatingIfNeeded: port)])
    }
    return answer
  }
}
