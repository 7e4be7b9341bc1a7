// A pooler as PgBouncer is with pool_mode = transaction: a client has a session only while a transaction is open.

import DevelopmentServers
import Foundation
import Synchronization

/// Stands in front of PostgreSQL and lends server sessions for the length of a transaction, the one that was given
/// back last first.
final class TransactionPooler: Sendable {
  private let listener: LoopbackListener
  private let target: Int
  private let free = Mutex<[Int32]>([])

  init(to target: Int) throws {
    self.target = target
    listener = try LoopbackListener()
    listener.start { [self] client in
      Thread { [self] in
        serve(client)
        close(client)
      }.start()
    }
  }

  var port: Int { listener.port }

  func stop() {
    listener.stop()
    free.withLock { sessions in
      for session in sessions { close(session) }
      sessions = []
    }
  }

  private func serve(_ client: Int32) {
    // The greeting: asked for encryption, none; then a session of its own, which is everybody's afterwards.
    guard var greeting = Self.message(from: client, hasType: false) else { return }
    if greeting.count == 8 {
      guard LoopbackListener.write(client, [UInt8(ascii: "N")]),
        let next = Self.message(from: client, hasType: false)
      else { return }
      greeting = next
    }
    guard let session = LocalPort.connect(target) else { return }
    guard LoopbackListener.write(session, greeting[...]), answer(client, from: session) != nil
    else {
      close(session)
      return
    }
    free.withLock { $0.append(session) }

    var lent: Int32?
    while let message = Self.message(from: client, hasType: true), message[0] != UInt8(ascii: "X") {
      guard let session = lent ?? free.withLock({ $0.popLast() }),
        LoopbackListener.write(session, message[...])
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
      guard LoopbackListener.write(client, message[...]) else { return nil }
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
}
