// A way to the broker on which bytes of messages get damaged.

import Foundation
import Glibc
import Synchronization

/// A TCP proxy in front of the development broker. Answers that name the broker name the proxy instead.
///
/// `@unchecked Sendable`: the mutable state is behind the mutex; ports and the listening socket never change.
final class FetchProxy: @unchecked Sendable {
  let port: UInt16
  private let target: UInt16
  private let listener: Int32
  private let marker: [UInt8]
  /// How many answers that hold the marker are still to be damaged, and how many were.
  private let state: Mutex<(left: Int, done: Int)>

  /// - Parameters:
  ///   - marker: the first byte of its first occurrence in an answer is changed.
  ///   - times: in that many answers.
  init(to target: UInt16, damaging marker: String, times: Int) throws {
    self.target = target
    self.marker = Array(marker.utf8)
    state = Mutex((left: times, done: 0))
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
    port = UInt16(bigEndian: address.sin_port)
    guard bound else { throw Timeout(description: "the proxy has no port") }
    Thread { self.acceptClients() }.start()
  }

  var damaged: Int { state.withLock { $0.done } }

  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private func acceptClients() {
    while true {
      let client = accept(listener, nil, nil)
      guard client >= 0 else {
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
      Thread { self.forwardRequests(connection) }.start()
      Thread { self.forwardAnswers(connection) }.start()
    }
  }

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

  private func forwardRequests(_ connection: Connection) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(connection.client, &buffer, buffer.count)
      guard count > 0, Self.writeAll(connection.server, buffer[..<count]) else { break }
    }
    connection.cut()
  }

  /// Whole answers, one after the other: four bytes of length, then as many.
  private func forwardAnswers(_ connection: Connection) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var waiting: [UInt8] = []
    reading: while true {
      let count = read(connection.server, &buffer, buffer.count)
      guard count > 0 else { break }
      waiting += buffer[..<count]
      while waiting.count >= 4 {
        let size = 4 + waiting[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard waiting.count >= size else { break }
        guard Self.writeAll(connection.client, changed(Array(waiting[..<size]))[...]) else {
          break reading
        }
        waiting.removeFirst(size)
      }
    }
    connection.cut()
  }

  private func changed(_ answer: [UInt8]) -> [UInt8] {
    var answer = answer
    let host = Array("127.0.0.1".utf8)
    var from = answer.startIndex
    while let found = answer[from...].firstRange(of: host) {
      from = found.upperBound
      let place = from..<(from + 4)
      guard place.upperBound <= answer.endIndex else { break }
      if Array(answer[place]) == [0, 0, UInt8(target >> 8), UInt8(target & 0xFF)] {
        answer.replaceSubrange(place, with: [0, 0, UInt8(port >> 8), UInt8(port & 0xFF)])
      }
    }
    if let found = answer.firstRange(of: marker) {
      let damages = state.withLock { state in
        guard state.left > 0 else { return false }
        state.left -= 1
        state.done += 1
        return true
      }
      if damages { answer[found.lowerBound] ^= 0x01 }
    }
    return answer
  }

  private static func writeAll(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      guard sent > 0 else { return false }
      rest = rest.dropFirst(sent)
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
