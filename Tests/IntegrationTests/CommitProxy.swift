// A way to PostgreSQL that can be cut at the one moment that matters: just before or just after COMMIT.

import Foundation
import Glibc
import PostgresClient
import Synchronization

/// A TCP proxy in front of PostgreSQL that sees when a client commits.
///
/// `@unchecked Sendable`: the mutable state is behind the mutex; the listening socket never changes.
final class CommitProxy: @unchecked Sendable {
  /// What is done to one COMMIT.
  enum Fault: Sendable {
    /// The backend is terminated before COMMIT reaches it: nothing of the transaction stays.
    case terminateBefore
    /// COMMIT is carried out, the client never hears of it: all of the transaction stays.
    case terminateAfter
  }

  private struct State {
    var faults: [Fault] = []
    var done: [Fault] = []
    var holds = false
    var held = 0
    var commits = 0
    var isStopped = false
  }

  let port: Int
  private let target: UInt16
  private let listener: Int32
  private let admin: PostgresClient
  /// Every COMMIT takes this much longer, so that there is time to interfere.
  private let delay: useconds_t
  private let state = Mutex(State())

  /// - Parameter admin: a client that reaches the server by another way.
  init(to target: Int, admin: PostgresClient, delay: useconds_t) throws {
    self.target = UInt16(target)
    self.admin = admin
    self.delay = delay
    signal(SIGPIPE, SIG_IGN)
    let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Self.loopback(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, length) == 0 && listen(socket, 64) == 0
          && getsockname(socket, $0, &length) == 0
      }
    }
    listener = socket
    port = Int(UInt16(bigEndian: address.sin_port))
    guard bound else { throw Timeout(description: "the proxy has no port") }
    let thread = Thread { self.acceptClients() }
    thread.start()
  }

  /// The next commits, one each, meet these faults.
  func inject(_ faults: [Fault]) { state.withLock { $0.faults += faults } }

  var done: [Fault] { state.withLock { $0.done } }
  var commits: Int { state.withLock { $0.commits } }

  /// While held, what clients send is kept back, and no lock is taken on their behalf.
  func hold(_ isHeld: Bool) { state.withLock { $0.holds = isHeld } }
  /// Statements that are kept back.
  var held: Int { state.withLock { $0.held } }

  func stop() {
    state.withLock { $0.isStopped = true }
    shutdown(listener, Int32(SHUT_RDWR))
  }

  // MARK: Connections

  private func acceptClients() {
    while true {
      let client = accept(listener, nil, nil)
      guard client >= 0 else {
        // Closed by who uses it: else another socket might get its number while it is still used.
        close(listener)
        return
      }
      let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = Self.loopback(target)
      let connected = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
      }
      guard connected else {
        close(client)
        close(server)
        continue
      }
      let connection = Connection(client: client, server: server)
      Thread { self.forwardAnswers(connection) }.start()
      Thread { self.forwardStatements(connection) }.start()
    }
  }

  /// `@unchecked Sendable`: the descriptors never change, the rest is behind the mutex.
  private final class Connection: @unchecked Sendable {
    let client: Int32
    let server: Int32
    /// The backend's process id, from its greeting; and whether its next answer is swallowed.
    let state = Mutex((backend: Int32(0), swallows: false))
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

  private func forwardStatements(_ connection: Connection) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let commit = Array("COMMIT\0".utf8)
    let fence = Array("UPDATE ingest_partitions SET next_offset".utf8)
    while true {
      let count = read(connection.client, &buffer, buffer.count)
      guard count > 0 else { break }
      let part = buffer[..<count]
      if Self.contains(part, fence) { waitWhileHeld() }
      if Self.contains(part, commit) {
        usleep(delay)
        let fault = state.withLock { state -> Fault? in
          state.commits += 1
          guard !state.faults.isEmpty else { return nil }
          let fault = state.faults.removeFirst()
          state.done.append(fault)
          return fault
        }
        switch fault {
        case .terminateBefore: terminate(connection)
        case .terminateAfter: connection.state.withLock { $0.swallows = true }
        case nil: break
        }
      }
      guard Self.writeAll(connection.server, buffer, count) else { break }
    }
    connection.cut()
  }

  private func waitWhileHeld() {
    guard state.withLock({ $0.holds }) else { return }
    state.withLock { $0.held += 1 }
    while state.withLock({ $0.holds && !$0.isStopped }) { usleep(2_000) }
    state.withLock { $0.held -= 1 }
  }

  private func forwardAnswers(_ connection: Connection) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(connection.server, &buffer, buffer.count)
      guard count > 0 else { break }
      let (backend, swallows) = connection.state.withLock { $0 }
      if backend == 0 { noteBackend(buffer[..<count], connection) }
      if swallows {
        // COMMIT has been answered; the client must not know.
        terminate(connection)
        break
      }
      guard Self.writeAll(connection.client, buffer, count) else { break }
    }
    connection.cut()
  }

  /// BackendKeyData: 'K', a length of 12, the process id, the key.
  private func noteBackend(_ greeting: ArraySlice<UInt8>, _ connection: Connection) {
    let bytes = Array(greeting)
    guard bytes.count >= 13 else { return }
    for index in 0...(bytes.count - 13) where bytes[index] == UInt8(ascii: "K") {
      guard Array(bytes[index + 1..<index + 5]) == [0, 0, 0, 12] else { continue }
      let id = bytes[index + 5..<index + 9].reduce(Int32(0)) { $0 << 8 | Int32($1) }
      connection.state.withLock { $0.backend = id }
      return
    }
  }

  private func terminate(_ connection: Connection) {
    let backend = connection.state.withLock { $0.backend }
    let done = DispatchSemaphore(value: 0)
    Task { [admin] in
      _ = try? await admin.query("SELECT pg_terminate_backend(\(backend))")
      done.signal()
    }
    done.wait()
  }

  // MARK: Sockets

  private static func contains(_ bytes: ArraySlice<UInt8>, _ pattern: [UInt8]) -> Bool {
    bytes.firstRange(of: pattern) != nil
  }

  private static func writeAll(_ descriptor: Int32, _ buffer: [UInt8], _ count: Int) -> Bool {
    var sent = 0
    while sent < count {
      let now = buffer.withUnsafeBytes { bytes in
        bytes.baseAddress.map { write(descriptor, $0 + sent, count - sent) } ?? -1
      }
      guard now > 0 else { return false }
      sent += now
    }
    return true
  }

  private static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }
}
