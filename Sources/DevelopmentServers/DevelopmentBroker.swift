// The development broker: a single program that speaks Kafka's protocol.

import Foundation
import StructuredLogging

/// A Kafka-compatible broker on 127.0.0.1, for development and tests only.
public final class DevelopmentBroker: Sendable {
  /// `host:port`, as clients want it.
  public let bootstrapServers: String
  public let port: Int
  private let process: ChildProcess
  private let logger: Logger

  private init(port: Int, process: ChildProcess, logger: Logger) {
    self.port = port
    self.process = process
    self.logger = logger
    bootstrapServers = "127.0.0.1:\(port)"
  }

  public var processID: pid_t { process.processID }
  public var isRunning: Bool { process.isRunning }

  /// Starts the broker and waits until it accepts connections.
  ///
  /// - Parameters:
  ///   - executable: the `noida-db` program.
  ///   - folder: where it keeps its data and `broker.log`; made if missing. Starting again on the
  ///     same folder finds the data again.
  ///   - port: a free one by default.
  /// - Throws: `DevelopmentServerError`.
  public static func start(
    executable: URL, folder: URL, port: Int? = nil,
    logger: Logger = Logger(label: "oppu.broker")
  ) async throws -> DevelopmentBroker {
    guard FileManager.default.isExecutableFile(atPath: executable.path) else {
      throw DevelopmentServerError.programMissing(
        name: "the development broker \(executable.path)", hint: "run scripts/setup")
    }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw DevelopmentServerError.folder(path: folder.path, reason: "\(error)")
    }
    let chosen = try port ?? LocalPort.free()
    if LocalPort.isListening(chosen) {
      throw DevelopmentServerError.port(chosen, reason: "another program listens there")
    }
    let launch = ChildProcess.Launch(
      executable: executable.path,
      arguments: [
        "start", "--only", "kafka", "--host", "127.0.0.1", "--kafka-port", "\(chosen)",
        "--data-dir", folder.appendingPathComponent("data").path,
      ],
      workingDirectory: folder.path,
      logFile: folder.appendingPathComponent("broker.log").path)
    let process = try await ChildProcess.start(launch)
    do {
      try await waitUntilReady(process, seconds: 60) { LocalPort.isListening(chosen) }
    } catch {
      await process.stop(SIGKILL)
      throw error
    }
    logger.info("development broker ready", metadata: ["port": "\(chosen)"])
    return DevelopmentBroker(port: chosen, process: process, logger: logger)
  }

  /// Stops the broker and waits for its end.
  public func stop() async {
    await process.stop(SIGTERM, grace: .seconds(10))
    logger.debug("development broker stopped")
  }

  /// Ends the broker as a crash would.
  public func kill() async { await process.stop(SIGKILL) }

  /// Waits until the broker has ended by itself; returns how in words.
  public func waitForEnd() async -> String { ChildProcess.describe(await process.waitForEnd()) }
}

/// Polls until a server is ready.
///
/// - Throws: `DevelopmentServerError.failed` if it ends first, `.notReady` after `seconds`.
func waitUntilReady(
  _ process: ChildProcess, seconds: Int, _ isReady: () -> Bool
) async throws {
  let deadline = ContinuousClock.now + .seconds(seconds)
  while !isReady() {
    if let status = process.endStatus {
      throw DevelopmentServerError.failed(
        program: process.name, status: ChildProcess.describe(status),
        log: process.lastLogLines())
    }
    guard ContinuousClock.now < deadline else {
      throw DevelopmentServerError.notReady(
        program: process.name, seconds: seconds, log: process.lastLogLines())
    }
    try await Task.sleep(for: .milliseconds(20))
  }
}
