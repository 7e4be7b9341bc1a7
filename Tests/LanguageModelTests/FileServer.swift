// A small HTTP server for the tests of downloads.

import Foundation
import Synchronization
import Testing

/// Serves files over HTTP/1.1, one request to a connection: ranges, ETags, redirects and, where asked,
/// answers that break off.
final class FileServer: Sendable {
  struct Reply: Sendable {
    var body: [UInt8]
    var etag = "\"one\""
    var headers: [String] = []
    var redirect: String?
    /// The first answers end after so many bytes of their body.
    var breaks: [Int] = []
    /// Says nothing and leaves the connection open until the client ends it.
    var isSilent = false
  }
  private struct State {
    var replies: [String: Reply]
    var requests: [String] = []
  }
  let port: Int
  /// The paths asked for, as they come.
  let arrivals: AsyncStream<String>
  private let arrived: AsyncStream<String>.Continuation
  private let descriptor: Int32
  private let state: Mutex<State>

  init(_ replies: [String: Reply]) throws {
    state = Mutex(State(replies: replies))
    (arrivals, arrived) = AsyncStream.makeStream()
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = self.descriptor
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { place in
        bind(descriptor, place, length) == 0 && listen(descriptor, 16) == 0
          && getsockname(descriptor, place, &length) == 0
      }
    }
    try #require(isBound)
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { [self] in
      while true {
        let connection = accept(descriptor, nil, nil)
        if connection < 0 {
          // Closed by who uses it: else the next server's socket might get this number while it is still used.
          close(descriptor)
          return
        }
        answer(connection)
        close(connection)
      }
    }
  }

  func stop() {
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  func url(_ path: String) throws -> URL {
    try #require(URL(string: "http://127.0.0.1:\(port)\(path)"))
  }

  var requests: [String] { state.withLock { $0.requests } }

  func change(_ path: String, _ body: (inout Reply) -> Void) {
    state.withLock { state in
      guard var reply = state.replies[path] else { return }
      body(&reply)
      state.replies[path] = reply
    }
  }

  private func answer(_ connection: Int32) {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !bytes.suffix(4).elementsEqual("\r\n\r\n".utf8) {
      let count = read(connection, &buffer, buffer.count)
      if count <= 0 { return }
      bytes += buffer[..<count]
    }
    let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
    let path = lines[0].components(separatedBy: " ")[1]
    func header(_ name: String) -> String? {
      lines.first { $0.lowercased().hasPrefix(name + ": ") }.map {
        String($0.dropFirst(name.count + 2))
      }
    }
    let found: (Reply, Int?)? = state.withLock { state in
      state.requests.append(path + (header("range").map { " " + $0 } ?? ""))
      guard let reply = state.replies[path] else { return nil }
      let cut = reply.breaks.first
      if cut != nil { state.replies[path]?.breaks.removeFirst() }
      return (reply, cut)
    }
    guard let (reply, cut) = found else {
      return send(
        connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", [])
    }
    arrived.yield(path)
    if reply.isSilent {
      while read(connection, &buffer, buffer.count) > 0 {}
      return
    }
    if let redirect = reply.redirect {
      let head =
        "HTTP/1.1 302 Found\r\nLocation: \(redirect)\r\n"
        + reply.headers.map { $0 + "\r\n" }.joined()
        + "Content-Length: 0\r\nConnection: close\r\n\r\n"
      return send(connection, head, [])
    }
    var body = reply.body[...]
    var head = "HTTP/1.1 200 OK\r\n"
    if let range = header("range"), header("if-range") == reply.etag,
      let start = Int(range.dropFirst(6).dropLast())
    {
      guard start < body.count else {
        return send(
          connection,
          "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", []
        )
      }
      body = body[start...]
      head =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes \(start)-\(reply.body.count - 1)/\(reply.body.count)\r\n"
    }
    head += "ETag: \(reply.etag)\r\nContent-Length: \(body.count)\r\nConnection: close\r\n"
    head += reply.headers.map { $0 + "\r\n" }.joined() + "\r\n"
    send(connection, head, Array(cut.map { body.prefix($0) } ?? body))
  }

  private func send(_ connection: Int32, _ head: String, _ body: [UInt8]) {
    let bytes = Array(head.utf8) + body
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
      if count <= 0 { return }
      sent += count
    }
  }
}
