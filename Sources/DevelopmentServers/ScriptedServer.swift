// A real server that a script from outside runs, for tests on what people have: Apache Kafka, other PostgreSQLs.

import Foundation
import Synchronization

/// A server, or several that are one, behind a script of the form
///
///     SCRIPT start FOLDER [--version V] [--brokers N] [--set NAME=VALUE]...    on a folder that is empty or not there yet
///     SCRIPT stop FOLDER
///     SCRIPT signal FOLDER [MEMBER] SIGNAL                       KILL, STOP, CONT …
///     SCRIPT restart FOLDER [MEMBER]                             after it was killed or stopped
///
/// The servers are no children of this process; a keeper is, which kills them when this process ends, however it ends.
final class ScriptedServer: Sendable {
  private let script: String
  private let folder: String
  /// What the script calls its servers; none where it runs one that has no name.
  private let members: [String]
  private let keeper: ChildProcess
  private let isUp = Atomic(true)

  /// Starts the server, or starts it again where the folder holds one.
  ///
  /// - Parameters:
  ///   - folder: made if missing; it also gets the script's output, `script.log`.
  ///   - members: what the script calls its servers.
  ///   - address: the file, below what the script is given, that holds the address once the server runs.
  /// - Returns: the server, and what is in that file.
  /// - Throws: `DevelopmentServerError`.
  static func start(
    script: URL, folder: URL, members: [String], address: String, arguments: [String]
  ) async throws -> (server: ScriptedServer, address: String) {
    guard FileManager.default.isExecutableFile(atPath: script.path) else {
      throw DevelopmentServerError.programMissing(
        name: "the script \(script.path)", hint: "name a folder that has one, or none")
    }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw DevelopmentServerError.folder(path: folder.path, reason: "\(error)")
    }
    let own = folder.appendingPathComponent("server")
    let file = own.appendingPathComponent(address)
    let isKnown = FileManager.default.fileExists(atPath: file.path)
    // Before the server, so that it is never without one.
    let keeper = try await keep(script.path, own.path, members, folder)
    let server = ScriptedServer(
      script: script.path, folder: own.path, members: members, keeper: keeper)
    do {
      if !isKnown {
        try await server.run("start", arguments)
      } else if members.isEmpty {
        try await server.run("restart")
      } else {
        for member in members { try await server.restart(member) }
      }
      return (server, try String(contentsOf: file, encoding: .utf8))
    } catch let error as DevelopmentServerError {
      await server.kill()
      throw error
    } catch {
      await server.kill()
      throw DevelopmentServerError.folder(path: file.path, reason: "\(error)")
    }
  }

  private init(script: String, folder: String, members: [String], keeper: ChildProcess) {
    self.script = script
    self.folder = folder
    self.members = members
    self.keeper = keeper
    Self.endAtExit(keeper)
  }

  /// What keeps the server; told to end, it kills it.
  var processID: pid_t { keeper.processID }
  var isRunning: Bool { isUp.load(ordering: .acquiring) && keeper.isRunning }

  /// Stops it in order.
  func stop() async {
    isUp.store(false, ordering: .releasing)
    try? await run("stop")
    await keeper.stop(SIGKILL)
  }

  /// Ends it as a crash would.
  func kill() async {
    isUp.store(false, ordering: .releasing)
    await keeper.stop(SIGTERM)
  }

  /// Sends one of its servers, or its only one, a signal.
  func signal(_ number: Int32, to member: String? = nil) async throws {
    let named = member.map { [$0] } ?? Array(members.prefix(1))
    try await run("signal", named + ["\(number)"])
  }

  /// Starts one of its servers again.
  func restart(_ member: String) async throws { try await run("restart", [member]) }

  /// Waits until it is no longer kept.
  func waitForEnd() async -> Int32 { await keeper.waitForEnd() }

  /// Calls the script, which reads the lines of `input`.
  func run(_ command: String, _ arguments: [String] = [], input: URL? = nil) async throws {
    try await ChildProcess.run(
      ChildProcess.Launch(
        executable: "/bin/sh",
        arguments: [
          "-c", #"input=$1; shift; exec "$0" "$@" < "$input""#, script, input?.path ?? "/dev/null",
          command, folder,
        ] + arguments,
        logFile: Self.log(URL(fileURLWithPath: folder).deletingLastPathComponent())))
  }

  private static func log(_ folder: URL) -> String {
    folder.appendingPathComponent("script.log").path
  }

  private static func keep(
    _ script: String, _ own: String, _ members: [String], _ folder: URL
  ) async throws -> ChildProcess {
    // Unquoted, the name of a server that has none is no word at all.
    let kill =
      #"own=$1; shift; [ $# -gt 0 ] || set -- ''; "#
      + #"trap 'kill $!; for member; do "$0" signal "$own" $member KILL; done; exit 0' TERM INT"#
    return try await ChildProcess.start(
      ChildProcess.Launch(
        executable: "/bin/sh",
        arguments: [
          "-c", "\(kill); while :; do sleep 3600 & wait $!; done", script, own,
        ] + members, logFile: log(folder)))
  }

  // MARK: When this process ends

  private static let keepers = Mutex<[ChildProcess]>([])

  /// The files of a server may go with this process, and without them its script cannot end it: so it is ended
  /// first. What is registered later runs earlier.
  private static func endAtExit(_ keeper: ChildProcess) {
    let isFirst = keepers.withLock { keepers in
      keepers.append(keeper)
      return keepers.count == 1
    }
    guard isFirst else { return }
    atexit {
      let left = ScriptedServer.keepers.withLock { $0.filter(\.isRunning) }
      for keeper in left { keeper.signal(SIGTERM) }
      for _ in 0..<500 where left.contains(where: \.isRunning) { usleep(10_000) }
    }
  }
}

/// Servers from outside that tests and benches are told to use.
public enum OutsideServers {
  /// The script of Apache Kafka in the folder that `OPPU_TEST_KAFKA` names.
  public static var kafka: URL? { script("kafka", of: "OPPU_TEST_KAFKA") }
  /// The script of PostgreSQL in the folder that `OPPU_TEST_POSTGRES` names.
  public static var postgres: URL? { script("postgres", of: "OPPU_TEST_POSTGRES") }

  /// Whether groups on that Apache Kafka may use the protocol of Kafka 4 (KIP-848).
  public static var kafkaHasConsumerProtocol: Bool {
    let version = ProcessInfo.processInfo.environment["OPPU_TEST_KAFKA_VERSION"] ?? ""
    return kafka != nil && !version.hasPrefix("3")
  }

  /// What the variables leave untried, in a sentence; nil where both are set.
  public static var untried: String? {
    let missing = [
      kafka == nil ? "Apache Kafka (OPPU_TEST_KAFKA)" : nil,
      postgres == nil ? "other versions of PostgreSQL (OPPU_TEST_POSTGRES)" : nil,
    ].compactMap { $0 }
    return missing.isEmpty ? nil : "not tried: \(missing.joined(separator: ", "))"
  }

  /// `--version V` where the variable with `_VERSION` says which.
  static func version(of variable: String) -> [String] {
    let version = ProcessInfo.processInfo.environment[variable + "_VERSION"] ?? ""
    return version.isEmpty ? [] : ["--version", version]
  }

  private static func script(_ name: String, of variable: String) -> URL? {
    let folder = ProcessInfo.processInfo.environment[variable] ?? ""
    return folder.isEmpty ? nil : URL(fileURLWithPath: folder).appendingPathComponent(name)
  }
}
