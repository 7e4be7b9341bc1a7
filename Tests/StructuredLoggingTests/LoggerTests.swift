import Foundation
import StructuredLogging
import Synchronization
import Testing

@Suite struct LoggerTests {
  /// Keeps what it is given.
  private final class Recorder: LogHandler {
    private let kept = Mutex<[String]>([])
    var lines: [String] { kept.withLock(\.self) }

    func log(level: Logger.Level, message: Logger.Message, metadata: Logger.Metadata) {
      let values = metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      kept.withLock { $0.append(([level.rawValue] + values + [message]).joined(separator: " ")) }
    }
  }

  private static func counted(_ count: inout Int) -> String {
    count += 1
    return "text"
  }

  @Test("a level that is off computes neither the message nor the values")
  func off() {
    let recorder = Recorder()
    var logger = Logger(label: "test") { _ in recorder }
    var count = 0
    logger.debug("\(Self.counted(&count))", metadata: ["key": "\(Self.counted(&count))"])
    logger.trace("\(Self.counted(&count))")
    logger.logLevel = .critical
    logger.error("\(Self.counted(&count))", metadata: ["key": "\(Self.counted(&count))"])
    #expect(count == 0)
    #expect(recorder.lines.isEmpty)
    logger.critical("\(Self.counted(&count))", metadata: ["key": "\(Self.counted(&count))"])
    #expect(count == 2)
    #expect(recorder.lines == ["critical key=text text"])
  }

  @Test("levels rise from trace to critical, and each method writes at its own")
  func levels() throws {
    #expect(Logger.Level.allCases == Logger.Level.allCases.shuffled().sorted())
    #expect(
      Logger.Level.allCases.map(\.rawValue) == [
        "trace", "debug", "info", "notice", "warning", "error", "critical",
      ])
    for a in Logger.Level.allCases { #expect(!(a < a) && a <= a) }
    #expect(Logger.Level(rawValue: "loud") == nil)
    let recorder = Recorder()
    var logger = Logger(label: "test") { _ in recorder }
    #expect(logger.logLevel == .info)
    logger.logLevel = .trace
    logger.trace("1")
    logger.debug("2")
    logger.info("3")
    logger.notice("4")
    logger.warning("5")
    logger.error("6")
    logger.critical("7")
    #expect(
      recorder.lines
        == zip(Logger.Level.allCases, 1...7).map { "\($0.rawValue) \($1)" })
  }

  @Test("a copy has values and a level of its own, and a line's values go before its logger's")
  func copies() {
    let recorder = Recorder()
    var first = Logger(label: "test") { _ in recorder }
    first[metadataKey: "role"] = "ingest"
    var second = first
    second[metadataKey: "role"] = "train"
    second[metadataKey: "job"] = "5"
    second.logLevel = .error
    first.info("first")
    second.info("not written")
    second.error("second", metadata: ["job": "6", "more": "x"])
    second[metadataKey: "job"] = nil
    second.error("third")
    #expect(first[metadataKey: "role"] == "ingest")
    #expect(
      recorder.lines == [
        "info role=ingest first", "error job=6 more=x role=train second", "error role=train third",
      ])
  }

  @Test("the handler of the system is for loggers made from then on, and may be chosen again")
  func bootstrap() {
    let before = Logger(label: "before") { _ in NoOpLogHandler() }
    let recorders = [Recorder(), Recorder()]
    defer { LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) } }
    LoggingSystem.bootstrap { _ in recorders[0] }
    let first = Logger(label: "first")
    LoggingSystem.bootstrap { _ in recorders[1] }
    let second = Logger(label: "second")
    before.error("nowhere")
    first.error("1")
    second.error("2")
    #expect(recorders.map(\.lines) == [["error 1"], ["error 2"]])
  }
}
