// Downloads from a small server of the tests' own on 127.0.0.1.

import Cryptography
import Foundation
import Synchronization
import Testing

@testable import LanguageModel

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

  @Test("A redirect keeps the hash and the range; without end, it is given up")
  func redirects() async throws {
    let hash = SHA256.hash(data: Self.body).hexadecimal
    let replies: [String: FileServer.Reply] = [
      "/m": .init(body: Self.body, breaks: [100_000]),
      "/hub": .init(body: [], headers: ["X-Linked-ETag: \"\(hash)\""], redirect: "/between"),
      "/between": .init(body: [1, 2, 3], redirect: "/m"),
      "/circle": .init(body: [], redirect: "/circle"),
    ]
    try await withServer(replies) { server, folder in
      let place = folder.appending(path: "m")
      let outcome = try await FileDownload(url: server.url("/hub"), destination: place).run()
      #expect(outcome.isVerified)
      #expect(try [UInt8](Data(contentsOf: place)) == Self.body)
      let range = " bytes=100000-"
      #expect(
        server.requests
          == ["/hub", "/between", "/m", "/hub" + range, "/between" + range, "/m" + range])
      let error = await #expect(throws: DownloadError.self) {
        try await FileDownload(url: server.url("/circle"), destination: place).run()
      }
      #expect(error?.status == 302)
    }
  }

  @Test("No redirect leads from https to http, and none away from HTTP")
  func downgrades() async throws {
    for (old, new, isFollowed) in [
      ("https://a/", "https://b/", true), ("http://a/", "https://b/", true),
      ("http://a/", "http://b/", true), ("HTTP://a/", "HTTPS://b/", true),
      ("https://a/", "http://a/", false), ("https://a/", "HTTP://a/", false),
      ("https://a/", "ftp://a/", false), ("http://a/", "file:///etc/passwd", false),
      ("http://a/", "", false),
    ] {
      #expect(Transfer.follows(from: old, to: new) == isFollowed, "\(old) to \(new)")
    }
    try await withServer(["/m": .init(body: [], redirect: "file:///etc/passwd")]) {
      server, folder in
      let error = await #expect(throws: DownloadError.self) {
        try await FileDownload(
          url: server.url("/m"), destination: folder.appending(path: "m")
        ).run()
      }
      #expect(error?.status == 302)
      #expect(server.requests == ["/m"])
    }
  }

  @Test("A silent server is left within a second of a cancellation, or when its time is up")
  func silence() async throws {
    try await withServer(["/m": .init(body: [], isSilent: true)]) { server, folder in
      let place = folder.appending(path: "m")
      let download = FileDownload(url: try server.url("/m"), destination: place)
      let task = Task { try await download.run() }
      for await _ in server.arrivals { break }
      let start = ContinuousClock.now
      task.cancel()
      let error = await #expect(throws: DownloadError.self) { try await task.value }
      #expect(ContinuousClock.now - start < .seconds(1))
      #expect(error?.problem == "it was cancelled")
      // Not taken up again.
      #expect(server.requests == ["/m"])

      let library = try #require(CurlLibrary.shared)
      let transfer = Transfer(
        url: download.url, part: place, tag: folder.appending(path: "tag"), start: 0,
        library: library, patience: 1, progress: { _, _ in })
      await #expect(throws: DownloadError.self) { try await transfer.run() }
    }
  }

  @Test("Without libcurl, and where the file cannot be written, the reason is named")
  func reasons() async throws {
    try await withServer(["/m": .init(body: Self.body)]) { server, folder in
      let place = folder.appending(path: "m")
      let download = FileDownload(url: try server.url("/m"), destination: place)
      let absent = await #expect(throws: DownloadError.self) {
        try await download.run(with: CurlLibrary.open(["libcurl-of-nobody.so.4"]))
      }
      #expect(absent?.description.contains(CurlLibrary.package) == true)
      #expect(names(folder) == [])
      try FileManager.default.createDirectory(
        at: folder.appending(path: "m.part"), withIntermediateDirectories: true)
      let unwritable = await #expect(throws: DownloadError.self) { try await download.run() }
      #expect(unwritable?.problem.contains("m.part cannot be written: Is a directory") == true)
      #expect(server.requests == [])
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
