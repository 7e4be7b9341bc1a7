// A broker for development and tests: a stand-in that speaks part of Kafka's protocol, or Apache Kafka itself.
//
// What the stand-in (noida-db 0.2.3) does otherwise than Apache Kafka, as far as this project has met it:
// - It acknowledges messages before it has written them; killed or stopped within a second of one, it loses it. It writes all
//   that it holds as one text whenever something has changed, so that it slows down where it holds much.
// - After a restart it has forgotten its producers, which ends their idempotent sessions.
// - An empty fetch is answered at once instead of held (`kafka.idleRestMs`).
// - Groups: no rebalance timeout (a member that dies while the group forms keeps the others waiting), a silent
//   member's partitions are kept for it, a static one's for ever, a cooperative rebalance is never finished, and
//   there is no protocol of Kafka 4.
// - Topics are there, or gone, as soon as it says so; partitions are not added. Messages stay for ever, however old
//   their time says they are.
// - Logins, certificates and rights are not tried on it: only Apache Kafka has them as Kafka has.

import Foundation
import StructuredLogging

/// A broker on 127.0.0.1, for development and tests only.
public final class DevelopmentBroker: Sendable {
  /// `host:port`, as clients want it.
  public let bootstrapServers: String
  public let port: Int
  /// Apache Kafka's other ways in, by the names that its script gives them (`KAFKA_SASL`, `KAFKA_TLS_FOLDER` …).
  public let places: [String: String]
  private let server: Server
  private let logger: Logger

  private enum Server {
    case standIn(ChildProcess)
    case apacheKafka(ScriptedServer)
  }

  private init(
    port: Int, server: Server, places: [String: String] = [:], logger: Logger
  ) {
    self.port = port
    self.places = places
    self.server = server
    self.logger = logger
    bootstrapServers = "127.0.0.1:\(port)"
  }

  /// The process that runs the broker, or sees to it: the broker ends with it.
  public var processID: pid_t {
    switch server {
    case .standIn(let process): process.processID
    case .apacheKafka(let script): script.processID
    }
  }

  public var isRunning: Bool {
    switch server {
    case .standIn(let process): process.isRunning
    case .apacheKafka(let script): script.isRunning
    }
  }

  /// Whether a broker of this program is the stand-in, which lacks some of what Kafka does.
  public static func isStandIn(_ executable: URL) -> Bool {
    executable.lastPathComponent != "kafka"
  }

  /// Starts the broker and waits until it accepts connections.
  ///
  /// - Parameters:
  ///   - executable: the `noida-db` program, or a script named `kafka` (`OutsideServers.kafka`).
  ///   - folder: where it keeps its data and its log; made if missing. Starting again on the
  ///     same folder finds the data again.
  ///   - port: a free one by default; Apache Kafka's script chooses one itself, and keeps it for the folder.
  /// - Throws: `DevelopmentServerError`.
  public static func start(
    executable: URL, folder: URL, port: Int? = nil,
    logger: Logger = Logger(label: "oppu.broker")
  ) async throws -> DevelopmentBroker {
    if !isStandIn(executable) {
      return try await startApacheKafka(executable, folder: folder, port: port, logger: logger)
    }
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
    return DevelopmentBroker(port: chosen, server: .standIn(process), logger: logger)
  }

  private static func startApacheKafka(
    _ script: URL, folder: URL, port: Int?, logger: Logger
  ) async throws -> DevelopmentBroker {
    let (server, address) = try await ScriptedServer.start(
      script: script, folder: folder, members: ["1"], address: "env",
      // By the protocol of Kafka 4 a group moves on at its members' next heartbeat, every five seconds.
      arguments: OutsideServers.version(of: "OPPU_TEST_KAFKA")
        + ["min.heartbeat.interval.ms", "heartbeat.interval.ms"].flatMap {
          ["--set", "group.consumer.\($0)=500"]
        })
    let places = KafkaCluster.places(in: address)
    let found = places["KAFKA_PLAINTEXT"]?.split(separator: ":").last.flatMap { Int($0) }
    guard let found, port == nil || port == found else {
      await server.kill()
      throw DevelopmentServerError.port(port ?? 0, reason: "Apache Kafka listens at \(address)")
    }
    logger.info("Apache Kafka ready", metadata: ["port": "\(found)"])
    return DevelopmentBroker(
      port: found, server: .apacheKafka(server), places: places, logger: logger)
  }

  /// Stops the broker and waits for its end.
  public func stop() async {
    switch server {
    case .standIn(let process): await process.stop(SIGTERM, grace: .seconds(10))
    case .apacheKafka(let script): await script.stop()
    }
    logger.debug("broker stopped")
  }

  /// Ends the broker as a crash would.
  public func kill() async {
    switch server {
    case .standIn(let process): await process.stop(SIGKILL)
    case .apacheKafka(let script): await script.kill()
    }
  }

  /// Sends the broker a signal: SIGSTOP and SIGCONT hold it and let it go on.
  ///
  /// - Throws: `DevelopmentServerError`.
  public func signal(_ number: Int32) async throws {
    switch server {
    case .standIn(let process): process.signal(number)
    case .apacheKafka(let script): try await script.signal(number)
    }
  }

  /// Runs one of Apache Kafka's own tools (`acls`, `configs` …) as its super user; nothing with the stand-in.
  ///
  /// - Parameter input: a file whose lines the tool reads.
  /// - Throws: `DevelopmentServerError`.
  public func run(_ tool: String, _ arguments: [String], input: URL? = nil) async throws {
    if case .apacheKafka(let script) = server {
      try await script.run(tool, arguments, input: input)
    }
  }

  /// Waits until the broker has ended by itself; returns how in words.
  public func waitForEnd() async -> String {
    switch server {
    case .standIn(let process): ChildProcess.describe(await process.waitForEnd())
    case .apacheKafka(let script): ChildProcess.describe(await script.waitForEnd())
    }
  }
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
