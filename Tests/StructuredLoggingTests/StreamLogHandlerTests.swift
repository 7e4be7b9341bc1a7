import Foundation
import Synchronization
import Testing

@testable import StructuredLogging

@Suite struct StreamLogHandlerTests {
  private static let time = Date(timeIntervalSince1970: 1_795_883_400.0625)

  private static func line(
    _ message: String, _ metadata: Logger.Metadata = [:], label: String = "oppu-worker",
    _ format: StreamLogHandler.Format = .text
  ) -> String {
    StreamLogHandler(label: label, format: format).line(.info, message, metadata, at: time)
  }

  /// Text of every kind that breaks lines, quotes or terminals.
  private static let hostile =
    "a\nb\r\nc\u{1B}[31m\u{9B}2J\u{7F}\u{0}\u{8}\t\u{2028}\u{2029}\u{202E}\u{85}\"\\ é 日本 👩‍👩‍👧"

  @Test("a line of text has time, level, label, values in order, and the message")
  func text() {
    let line = Self.line("worker ready", ["role": "ingest", "a": "1"])
    let parts = line.split(separator: " ", maxSplits: 1)
    #expect(parts[1] == "info oppu-worker: a=1 role=ingest worker ready\n")
    let stamp = #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d{4})/#
    #expect(parts[0].wholeMatch(of: stamp) != nil)
    #expect(
      try! Date(String(parts[0]), strategy: .iso8601) == Date(timeIntervalSince1970: 1_795_883_400))
    #expect(Self.line("no values").hasSuffix(" info oppu-worker: no values\n"))
  }

  @Test("a value whose end could not be seen is in quotes")
  func quotes() {
    let line = Self.line(
      #"a "plain" message \ of = all"#,
      ["task adapters": "a b", "b": "", "c": #"x"\"#, "d": "k=v", "e": #"\n"#, "f": "a\nb"])
    #expect(
      line.hasSuffix(
        #": b="" c="x\"\\" d="k=v" e=\n f="a\nb" "task adapters"="a b" a "plain" message \ of = all"#
          + "\n"))
  }

  @Test(
    "no text starts a second line or reaches a terminal as a command",
    arguments: [StreamLogHandler.Format.text, .json])
  func hostile(format: StreamLogHandler.Format) {
    let line = Self.line(
      Self.hostile, [Self.hostile: Self.hostile], label: Self.hostile, format)
    let scalars = line.unicodeScalars.dropLast()
    #expect(line.hasSuffix("\n"))
    #expect(
      !scalars.contains {
        [.control, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
          || $0.properties.isBidiControl
      })
    #expect(line.contains(" é 日本 👩‍👩‍👧"))
    if format == .text {
      #expect(line.contains(#"a\nb\r\nc\u{1b}[31m\u{9b}2J\u{7f}\u{0}\u{8}\t\u{2028}"#))
    }
  }

  @Test("a forged line is part of the message that carries it")
  func forged() {
    let line = Self.line("failed\n2026-11-28T16:30:00+0000 info oppu-worker: all is well")
    #expect(line.split(separator: "\n").count == 1)
    #expect(line.contains(#"failed\n2026-11-28"#))
  }

  private struct Line: Decodable, Equatable {
    var time: String
    var level: String
    var label: String
    var message: String
    var metadata: [String: String]
  }

  @Test("a line of JSON parses to just what was logged")
  func json() throws {
    let line = Self.line(
      Self.hostile, [Self.hostile: Self.hostile, "b": "1"], label: Self.hostile, .json)
    let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
    #expect(object?.count == 5)
    let decoded = try JSONDecoder().decode(Line.self, from: Data(line.utf8))
    #expect(
      decoded
        == Line(
          time: "2026-11-28T16:30:00.062Z", level: "info", label: Self.hostile,
          message: Self.hostile, metadata: [Self.hostile: Self.hostile, "b": "1"]))
    #expect(
      Self.line("text", [:], .json)
        == #"{"time":"2026-11-28T16:30:00.062Z","level":"info","label":"oppu-worker","#
        + #""message":"text","metadata":{}}"# + "\n")
  }

  @Test("random text comes back from JSON as it was")
  func randomJSON() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed of random JSON: \(seed)")
    var random = SplitMix(state: seed)
    for _ in 0..<300 {
      let scalars = (0..<Int.random(in: 0...40, using: &random)).compactMap { _ in
        Unicode.Scalar(
          UInt32.random(in: 0...(Bool.random(using: &random) ? 0xFF : 0x10FFFF), using: &random))
      }
      let text = String(String.UnicodeScalarView(scalars))
      let line = Self.line(text, ["k": text], .json)
      let decoded = try JSONDecoder().decode(Line.self, from: Data(line.utf8))
      #expect(Array(decoded.message.unicodeScalars) == scalars)
      #expect(decoded.metadata["k"].map { Array($0.unicodeScalars) } == scalars)
    }
  }

  private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  /// Reads a descriptor to its end, on a thread of its own.
  private static func reader(of descriptor: Int32) -> @Sendable () async -> Data {
    let (stream, continuation) = AsyncStream.makeStream(of: Data.self)
    Thread.detachNewThread {
      let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
      continuation.yield((try? handle.readToEnd()) ?? Data())
      continuation.finish()
    }
    return { await stream.first { _ in true } ?? Data() }
  }

  @Test("lines of eight threads never mix, even long ones in a full pipe that does not block")
  func threads() async throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    let write = ends[1]
    try #require(fcntl(write, F_SETFL, fcntl(write, F_GETFL) | O_NONBLOCK) == 0)
    // F_SETPIPE_SZ: a long line fits only in parts.
    _ = fcntl(write, 1031, 4_096)
    let data = Self.reader(of: ends[0])
    let logger = Logger(label: "threads") {
      StreamLogHandler(label: $0, fileDescriptor: write, format: .json)
    }
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      let left = Mutex(8)
      let finish: @Sendable () -> Void = {
        let isLast = left.withLock {
          $0 -= 1
          return $0 == 0
        }
        if isLast { done.resume() }
      }
      for thread in 0..<8 {
        Thread.detachNewThread {
          for index in 0..<40 {
            let text = String(repeating: "\(thread)", count: index % 2 == 0 ? 100 : 20_000)
            logger.info("\(text)", metadata: ["thread": "\(thread)", "index": "\(index)"])
          }
          finish()
        }
      }
    }
    close(write)
    var next = [Int](repeating: 0, count: 8)
    for line in await data().split(separator: UInt8(ascii: "\n")) {
      let line = try JSONDecoder().decode(Line.self, from: Data(line))
      let thread = try #require(Int(line.metadata["thread"] ?? ""))
      #expect(Set(line.message) == Set("\(thread)"))
      #expect(line.metadata["index"] == "\(next[thread])")
      next[thread] += 1
    }
    #expect(next == [Int](repeating: 40, count: 8))
  }

  @Test("lines of several processes on one pipe never mix")
  func processes() async throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-log-\(UUID().uuidString)").path
    try #require(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    let read = open(path, O_RDONLY | O_NONBLOCK)
    // Keeps the reader from the end while no process has opened the pipe.
    let keeper = open(path, O_WRONLY)
    try #require(read >= 0 && keeper >= 0 && fcntl(read, F_SETFL, 0) == 0)
    let data = Self.reader(of: read)
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<3 {
        group.addTask {
          await #expect(processExitsWith: .success) {
            [path = path as String, number = number as Int] in
            let descriptor = open(path, O_WRONLY)
            let logger = Logger(label: "p\(number)") {
              StreamLogHandler(label: $0, fileDescriptor: descriptor, format: .json)
            }
            let text = String(repeating: "\(number)", count: 3_900)
            for index in 0..<300 { logger.info("\(text)", metadata: ["index": "\(index)"]) }
          }
        }
      }
    }
    close(keeper)
    var next: [String: Int] = [:]
    for line in await data().split(separator: UInt8(ascii: "\n")) {
      #expect(line.count < 4_096)
      let line = try JSONDecoder().decode(Line.self, from: Data(line))
      #expect(Set("p" + line.message) == Set(line.label))
      #expect(line.metadata["index"] == "\(next[line.label, default: 0])")
      next[line.label, default: 0] += 1
    }
    #expect(next == ["p0": 300, "p1": 300, "p2": 300])
  }

  @Test("a pipe that nobody reads and a descriptor that is closed end no process")
  func brokenPipe() async {
    await #expect(processExitsWith: .exitCode(7)) {
      signal(SIGPIPE, SIG_DFL)
      var ends: [Int32] = [0, 0]
      pipe(&ends)
      close(ends[0])
      for descriptor in [ends[1], 1_000_000, -1] {
        let logger = Logger(label: "lost") {
          StreamLogHandler(label: $0, fileDescriptor: descriptor)
        }
        for _ in 0..<3 { logger.error("nobody reads this") }
      }
      // The signal is neither pending nor held back afterwards.
      var pending = sigset_t()
      var mask = sigset_t()
      sigpending(&pending)
      pthread_sigmask(SIG_BLOCK, nil, &mask)
      exit(sigismember(&pending, SIGPIPE) == 0 && sigismember(&mask, SIGPIPE) == 0 ? 7 : 8)
    }
  }
}
