// Everything the demo starts: a private PostgreSQL, a development broker, and the real worker.

import DevelopmentServers
import Foundation
import StructuredLogging
import Synchronization

/// Why the demo cannot go on.
enum StageError: Error, CustomStringConvertible, LocalizedError {
  case inUse(folder: String)
  case notOurs(folder: String)
  case folder(String, reason: String)
  case missing(what: String, path: String)
  case workerEnded(status: String, log: String, lastLines: String)

  var description: String {
    switch self {
    case .inUse(let folder): "another demo runs in \(folder); choose another with --folder"
    case .notOurs(let folder):
      "\(folder) holds other things than a demo's; choose another with --folder"
    case .folder(let folder, let reason): "the folder \(folder) cannot be used: \(reason)"
    case .missing(let what, let path): "\(what) is not at \(path); run scripts/demo, which makes it"
    case .workerEnded(let status, let log, let lastLines):
      "the worker ended with \(status); its log is \(log): \(lastLines)"
    }
  }
  var errorDescription: String? { description }
}

/// The servers and the worker, started in order and stopped in reverse.
actor Stage {
  struct Settings: Sendable {
    var folder: URL
    var worker: URL
    var model: String
    var tasksFile: String?
    var broker: URL
    /// The worker's settings by their environment variables, where the user has not set them.
    var workerDefaults: [String: String]
  }

  private let settings: Settings
  private let logger: Logger
  private var lock: Int32 = -1
  private var postgres: PrivatePostgres?
  private var broker: DevelopmentBroker?
  private var worker: ChildProcess?
  /// What runs, with the signal that ends it at once: for a second Ctrl-C.
  private nonisolated let running = Mutex<[(process: pid_t, signal: Int32)]>([])

  init(_ settings: Settings) {
    self.settings = settings
    var logger = Logger(label: "oppu.demo")
    logger.logLevel = .error
    self.logger = logger
  }

  nonisolated var workerLog: String {
    settings.folder.appendingPathComponent("worker.log").path
  }

  // MARK: Starting

  /// Takes the folder, emptied of what an earlier demo left there.
  ///
  /// - Throws: `StageError`.
  func prepare() throws {
    let files = FileManager.default
    let path = settings.folder.path
    for (what, file) in [
      ("the worker", settings.worker.path), ("the base model", settings.model),
      ("the development broker", settings.broker.path),
    ] where !files.isReadableFile(atPath: file) {
      throw StageError.missing(what: what, path: file)
    }
    do {
      try files.createDirectory(at: settings.folder, withIntermediateDirectories: true)
      let entries = try files.contentsOfDirectory(atPath: path)
      guard entries.isEmpty || entries.contains(Self.lockName) else {
        throw StageError.notOurs(folder: path)
      }
      try takeLock()
      for entry in entries where entry != Self.lockName {
        try files.removeItem(at: settings.folder.appendingPathComponent(entry))
      }
    } catch let error as StageError {
      throw error
    } catch {
      throw StageError.folder(path, reason: error.localizedDescription)
    }
  }

  private static let lockName = "demo.lock"

  private func takeLock() throws {
    let path = settings.folder.appendingPathComponent(Self.lockName).path
    lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard lock >= 0 else {
      throw StageError.folder(settings.folder.path, reason: String(cString: strerror(errno)))
    }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      close(lock)
      lock = -1
      throw StageError.inUse(folder: settings.folder.path)
    }
  }

  /// Starts PostgreSQL; returns its URI.
  func startPostgres() async throws -> String {
    // A name of its own for each run: root's cluster may lie elsewhere, under a name made from it.
    let name = "postgres-" + String(Int(Date().timeIntervalSince1970), radix: 36)
    let server = try await PrivatePostgres.start(
      folder: settings.folder.appendingPathComponent(name), isDurable: false, logger: logger)
    postgres = server
    running.withLock { $0.append((server.processID, SIGQUIT)) }
    return server.connectionString
  }

  /// Starts the broker; returns its address.
  func startBroker() async throws -> String {
    let server = try await DevelopmentBroker.start(
      executable: settings.broker, folder: settings.folder.appendingPathComponent("broker"),
      logger: logger)
    broker = server
    running.withLock { $0.append((server.processID, SIGKILL)) }
    return server.bootstrapServers
  }

  /// Makes the topics and the schema with the worker's own commands, then starts the worker.
  func startWorker(brokers: String, database: String) async throws {
    let environment = workerEnvironment(brokers: brokers, database: database)
    try await runWorkerCommand(["admin", "topics", "create", "--execute"], environment)
    try await runWorkerCommand(["admin", "migrate", "--execute"], environment)
    let process = try await ChildProcess.start(launch(["run"], environment))
    worker = process
    running.withLock { $0.append((process.processID, SIGKILL)) }
  }

  private func runWorkerCommand(
    _ arguments: [String], _ environment: [String: String]
  ) async throws {
    let process = try await ChildProcess.start(launch(arguments, environment))
    let status = await withTaskCancellationHandler {
      await process.waitForEnd()
    } onCancel: {
      process.signal(SIGTERM)
    }
    try Task.checkCancellation()
    guard status == 0 else {
      throw DevelopmentServerError.failed(
        program: "oppu-worker " + arguments.joined(separator: " "),
        status: ChildProcess.describe(status), log: process.lastLogLines())
    }
  }

  private func launch(
    _ arguments: [String], _ environment: [String: String]
  ) -> ChildProcess.Launch {
    ChildProcess.Launch(
      executable: settings.worker.path, arguments: arguments, environment: environment,
      logFile: workerLog)
  }

  /// The user's own environment, pointed at the demo's servers and at nothing else.
  private func workerEnvironment(brokers: String, database: String) -> [String: String] {
    var environment = ProcessInfo.processInfo.environment.filter { name, _ in
      !["OPPU_KAFKA_", "OPPU_DATABASE_", "PG"].contains { name.hasPrefix($0) }
        && name != "OPPU_ROLES" && name != "OPPU_TASKS_FILE"
    }
    environment.merge(settings.workerDefaults) { own, _ in own }
    environment["OPPU_KAFKA_BOOTSTRAP_SERVERS"] = brokers
    // The development broker answers an empty fetch at once instead of holding it.
    environment["OPPU_KAFKA_IDLE_REST_MS"] = "200"
    environment["OPPU_DATABASE_URL"] = database
    environment["OPPU_MODEL"] = settings.model
    if let tasks = settings.tasksFile { environment["OPPU_TASKS_FILE"] = tasks }
    return environment
  }

  // MARK: Watching

  /// Returns never but by throwing: `StageError.workerEnded` when the worker has ended by itself,
  /// `CancellationError` when cancelled.
  func watchWorker() async throws -> Never {
    while true {
      try await Task.sleep(for: .milliseconds(200))
      if let worker, let status = worker.endStatus {
        throw StageError.workerEnded(
          status: ChildProcess.describe(status), log: workerLog, lastLines: worker.lastLogLines(3))
      }
    }
  }

  /// The most memory that the worker has held, in bytes; nil where the system does not tell.
  func workerPeakMemory() -> Int? {
    guard let worker,
      let text = try? String(
        contentsOfFile: "/proc/\(worker.processID)/status", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return nil }
    return kibibytes * 1024
  }

  // MARK: Stopping

  /// Stops everything and waits for it; the folder goes too unless it is kept.
  ///
  /// - Returns: whether there is a folder of this demo's that stays.
  @discardableResult
  func stop(keepingFolder: Bool) async -> Bool {
    await worker?.stop(SIGTERM, grace: .seconds(15))
    await broker?.stop()
    await postgres?.stop()
    running.withLock { $0.removeAll() }
    if !keepingFolder {
      if let folder = postgres?.folder { try? FileManager.default.removeItem(at: folder) }
      // Only a folder that this demo holds is its to remove.
      if lock >= 0 { try? FileManager.default.removeItem(at: settings.folder) }
    }
    defer { (worker, broker, postgres, lock) = (nil, nil, nil, -1) }
    guard lock >= 0 else { return false }
    close(lock)
    return keepingFolder
  }

  /// Ends everything without waiting.
  nonisolated func killAll() {
    running.withLock { for (process, signal) in $0 { kill(process, signal) } }
  }
}
