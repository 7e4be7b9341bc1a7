// A pooler as PgBouncer is with pool_mode = transaction: a client has a session only while a transaction is open.

import Foundation
import Glibc
import Synchronization

/// A TCP proxy in front of PostgreSQL that lends server sessions for the length of a transaction, the one that was
/// given back last first.
///
/// `@unchecked Sendable`: the free sessions are behind the mutex; the rest never changes.
final class TransactionPooler: @unchecked Sendable {
  let port: Int
  private let target: UInt16
  private let listener: Int32
  private let free = Mutex<[Int32]>([])

  init(to target: Int) throws {
    self.target = UInt16(target)
    signal(SIGPIPE, SIG_IGN)
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Self.loopback(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let socket = listener
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, length) == 0 && listen(socket, 64) == 0
          && getsockname(socket, $0, &length) == 0
      }
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    guard bound else { throw Timeout(description: "the pooler has no port") }
    Thread { self.acceptClients() }.start()
  }

  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private func acceptClients() {
    while case let client = accept(listener, nil, nil), client >= 0 {
      Thread {
        self.serve(client)
        close(client)
      }.start()
    }
    close(listener)
    for session in free.withLock({ $0 }) { close(session) }
  }

  private func serve(_ client: Int32) {
    // The greeting: asked for encryption, none; then a session of its own, which is everybody's afterwards.
    guard var greeting = Self.message(from: client, hasType: false) else { return }
    if greeting.count == 8 {
      guard Self.write(client, [UInt8(ascii: "N")]),
        let next = Self.message(from: client, hasType: false)
      else { return }
      greeting = next
    }
    let session = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Self.loopback(target)
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(session, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard connected, Self.write(session, greeting), answer(client, from: session) != nil else {
      close(session)
      return
    }
    free.withLock { $0.append(session) }

    var lent: Int32?
    while let message = Self.message(from: client, hasType: true), message[0] != UInt8(ascii: "X") {
      guard let session = lent ?? free.withLock({ $0.popLast() }), Self.write(session, message)
      else { break }
      lent = session
      // Query and Sync are answered; other messages wait for a Sync.
      guard [UInt8(ascii: "Q"), UInt8(ascii: "S")].contains(message[0]) else { continue }
      guard let state = answer(client, from: session) else { break }
      if state == UInt8(ascii: "I") {
        free.withLock { $0.append(session) }
        lent = nil
      }
    }
    if let lent { close(lent) }
  }

  /// Passes an answer on to its end, ReadyForQuery, and returns the transaction's state in it.
  private func answer(_ client: Int32, from session: Int32) -> UInt8? {
    while let message = Self.message(from: session, hasType: true) {
      guard Self.write(client, message) else { return nil }
      if message[0] == UInt8(ascii: "Z") { return message[5] }
    }
    return nil
  }

  /// One message of the protocol, with its type and length.
  private static func message(from descriptor: Int32, hasType: Bool) -> [UInt8]? {
    let head = hasType ? 5 : 4
    guard var message = read(descriptor, head) else { return nil }
    let length = message.suffix(4).reduce(0) { $0 << 8 | Int($1) }
    guard let rest = read(descriptor, length - 4) else { return nil }
    message += rest
    return message
  }

  private static func read(_ descriptor: Int32, _ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var filled = 0
    while filled < count {
      let now = bytes.withUnsafeMutableBytes {
        recv(descriptor, $0.baseAddress.map { $0 + filled }, count - filled, 0)
      }
      guard now > 0 else { return nil }
      filled += now
    }
    return bytes
  }

  private static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let now = bytes.withUnsafeBytes {
        send(descriptor, $0.baseAddress.map { $0 + sent }, bytes.count - sent, 0)
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
