// Downloads from a small server of the test's own on 127.0.0.1.

import Foundation
import Synchronization
import Testing

@testable import LanguageModel

/// Serves files over HTTP/1.1, one request to a connection: ranges, ETags, redirects and, where asked,
/// answers that break off.
private final class FileServer: Sendable {
  struct Reply: Sendable {
    var body: [UInt8]
    var etag = "\"one\""
    var headers: [String] = []
    var redirect: String?
    /// The first answers end after so many bytes of their body.
    var breaks: [Int] = []
  }
  private struct State {
    var replies: [String: Reply]
    var requests: [String] = []
  }
  let port: Int
  private let descriptor: Int32
  private let state: Mutex<State>

  init(_ replies: [String: Reply]) throws {
    state = Mutex(State(replies: replies))
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

@Suite("Downloads", .serialized)
struct DownloadTests {
  private static let body = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 7) }

  private func withServer(
    _ replies: [String: FileServer.Reply], _ body: (FileServer, URL) async throws -> Void
  ) async throws {
    signal(SIGPIPE, SIG_IGN)
    let server = try FileServer(replies)
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "oppu-download-\(UUID().uuidString)")
    defer {
      server.stop()
      try? FileManager.default.removeItem(at: folder)
    }
    try await body(server, folder)
  }

  private func names(_ folder: URL) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
  }

  @Test("A file arrives whole, with its hash and progress, and nothing else is left")
  func whole() async throws {
    try await withServer(["/m.gguf": .init(body: Self.body)]) { server, folder in
      let seen = Mutex((0, 0))
      let file = FileDownload(
        url: try server.url("/m.gguf"), destination: folder.appending(path: "m.gguf"))
      let outcome = try await file.run { done, total in seen.withLock { $0 = (done, total ?? 0) } }
      #expect(try [UInt8](Data(contentsOf: file.destination)) == Self.body)
      #expect(outcome.bytes == 300_000 && !outcome.isVerified && outcome.resumedFrom == 0)
      #expect(seen.withLock { $0 } == (300_000, 300_000))
      #expect(names(folder) == ["m.gguf"])
      let again = try await FileDownload(
        url: file.url, destination: file.destination, sha256: outcome.sha256.uppercased()
      ).run()
      #expect(again.isVerified)
    }
  }

  @Test("A connection that breaks is taken up where it broke, at once and by a later attempt")
  func resumes() async throws {
    try await withServer(["/m": .init(body: Self.body, breaks: [100_000, 50_000, 10_000])]) {
      server, folder in
      let place = folder.appending(path: "m")
      await #expect(throws: DownloadError.self) {
        try await FileDownload(url: server.url("/m"), destination: place, retries: 1).run()
      }
      #expect(names(folder) == ["m.part", "m.part.etag"])
      let outcome = try await FileDownload(url: server.url("/m"), destination: place).run()
      #expect(outcome.resumedFrom == 150_000)
      #expect(try [UInt8](Data(contentsOf: place)) == Self.body)
      #expect(
        server.requests == ["/m", "/m bytes=100000-", "/m bytes=150000-", "/m bytes=160000-"])
    }
  }

  @Test("An attempt that ended just before the renaming does not stand in the way")
  func complete() async throws {
    try await withServer(["/m": .init(body: Self.body)]) { server, folder in
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try Data(Self.body).write(to: folder.appending(path: "m.part"))
      try Data("\"one\"".utf8).write(to: folder.appending(path: "m.part.etag"))
      let place = folder.appending(path: "m")
      _ = try await FileDownload(url: server.url("/m"), destination: place).run()
      #expect(try [UInt8](Data(contentsOf: place)) == Self.body)
      #expect(names(folder) == ["m"])
    }
  }

  @Test("A file that has changed meanwhile is fetched anew, not pieced together")
  func changed() async throws {
    try await withServer(["/m": .init(body: Self.body, breaks: [100_000])]) { server, folder in
      let place = folder.appending(path: "m")
      await #expect(throws: DownloadError.self) {
        try await FileDownload(url: server.url("/m"), destination: place, retries: 0).run()
      }
      let other = [UInt8](repeating: 7, count: 120_000)
      server.change("/m") { $0 = .init(body: other, etag: "\"two\"") }
      _ = try await FileDownload(url: server.url("/m"), destination: place).run()
      #expect(try [UInt8](Data(contentsOf: place)) == other)
    }
  }

  @Test("A wrong hash, given or named by the server, keeps nothing; a refusal names the status")
  func refusals() async throws {
    let wrong = String(repeating: "0", count: 64)
    let replies: [String: FileServer.Reply] = [
      "/m": .init(body: Self.body),
      "/hub": .init(body: [], headers: ["X-Linked-ETag: \"\(wrong)\""], redirect: "/m"),
    ]
    try await withServer(replies) { server, folder in
      for (path, hash) in [("/m", wrong), ("/hub", nil)] {
        await #expect(throws: DownloadError.self) {
          try await FileDownload(
            url: server.url(path), destination: folder.appending(path: "m"), sha256: hash
          ).run()
        }
        #expect(names(folder) == [])
      }
      do {
        _ = try await FileDownload(
          url: server.url("/none"), destination: folder.appending(path: "m")
        ).run()
        Issue.record("a missing file was taken")
      } catch let error as DownloadError {
        #expect(error.status == 404)
        #expect(error.description.contains("404"))
      }
    }
  }

  @Test("A repository's files make a folder that loads")
  func repository() async throws {
    for name in ["llama2", "qwen2"] {
      var replies: [String: FileServer.Reply] = [:]
      for file in names(ModelFixtures.folder.appending(path: name)) {
        replies["/someone/tiny/resolve/main/\(file)"] = .init(
          body: [UInt8](try TestModel.fixture("models/\(name)/\(file)")))
      }
      try await withServer(replies) { server, folder in
        let source = try #require(ModelDownload("someone/tiny"))
        let hub = try server.url("")
        let (path, files) = try await source.fetch(into: folder, hub: hub)
        #expect(files.count == replies.count)
        let model = try LlamaModel.load(path: path.path)
        #expect(
          model.fingerprint == (try LlamaModel.load(path: ModelFixtures.path(name))).fingerprint)
        #expect(try await source.fetch(into: folder, hub: hub).files.isEmpty)
      }
    }
  }

  @Test("Sources are addresses and repositories, nothing else")
  func sources() throws {
    #expect(ModelDownload("a/b") == .repository("a/b", revision: "main"))
    #expect(ModelDownload("a/b@v1.0") == .repository("a/b", revision: "v1.0"))
    #expect(ModelDownload("https://example.org/x/m.gguf")?.name == "m.gguf")
    for text in ["", "a", "a/b/c", "/b", "a/", "../b", "a/b@", "a/b c", "https://", "file:///x"] {
      #expect(ModelDownload(text) == nil, "\(text)")
    }
  }

  @Test("A summary counts parameters and types")
  func summary() throws {
    let folder = ModelSummary(try LlamaModel.load(path: ModelFixtures.path("qwen3")))
    #expect(folder.architecture == .qwen3)
    #expect(folder.types == ["F16": 16])
    #expect(folder.weightBytes == 2 * (folder.parameters - 2 * (2 * 32 + 2 * 16) - 32))
    let standard = ModelSummary(try TestModel.shared.get())
    #expect(standard.parameters == 134_515_008)
  }
}
