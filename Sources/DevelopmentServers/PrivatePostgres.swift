// A PostgreSQL cluster of our own, in a folder of our own, beside any system one.

import Foundation
import StructuredLogging

/// A private PostgreSQL server on 127.0.0.1 and a Unix socket, for development and tests.
///
/// Only the loopback address and the socket are open, and every local user is trusted: never use
/// it for data that matters. PostgreSQL refuses to run as root, so for root it runs as `postgres`.
public final class PrivatePostgres: Sendable {
  /// libpq's URI of a database in which others can be made: `oppu`, of a server from outside `postgres`.
  public let connectionString: String
  public let port: Int
  /// The folder that holds the cluster; another than asked for if the server's user could not
  /// have reached that.
  public let folder: URL
  private let server: Server
  private let logger: Logger

  private enum Server {
    case own(ChildProcess, PostgresCluster)
    case fromOutside(ScriptedServer)
  }

  private init(
    port: Int, folder: URL, connectionString: String, server: Server, logger: Logger
  ) {
    self.port = port
    self.folder = folder
    self.connectionString = connectionString
    self.server = server
    self.logger = logger
  }

  /// The process that runs the server, or sees to it: the server ends with it.
  public var processID: pid_t {
    switch server {
    case .own(let process, _): process.processID
    case .fromOutside(let script): script.processID
    }
  }

  public var isRunning: Bool {
    switch server {
    case .own(let process, _): process.isRunning
    case .fromOutside(let script): script.isRunning
    }
  }

  /// Starts the server on the cluster in `folder`, which is made on first use, and waits until it
  /// takes connections.
  ///
  /// - Parameters:
  ///   - folder: holds `data/` and `postgres.log`.
  ///   - port: a free one by default; a server from outside chooses one itself, and keeps it for the folder.
  ///   - isDurable: false turns fsync off, for tests whose data may be lost with the machine.
  ///   - script: runs another PostgreSQL than the machine's (`OutsideServers.postgres`).
  ///   - primary: the server is its standby: a copy that follows it, and that `pg_promote()` makes a primary.
  /// - Throws: `DevelopmentServerError`.
  public static func start(
    folder: URL, port: Int? = nil, isDurable: Bool = true, script: URL? = nil,
    standbyOf primary: PrivatePostgres? = nil,
    logger: Logger = Logger(label: "oppu.postgres.server")
  ) async throws -> PrivatePostgres {
    if let script {
      return try await start(
        by: script, folder: folder, port: port, isDurable: isDurable, logger: logger)
    }
    let programs = try findPrograms()
    let cluster = try await PostgresCluster.prepare(
      folder: folder, programs: programs, isDurable: isDurable, primary: primary?.port,
      logger: logger)
    let chosen = try port ?? LocalPort.free()
    if LocalPort.isListening(chosen) {
      throw DevelopmentServerError.port(chosen, reason: "another program listens there")
    }
    var arguments = [
      "-D", cluster.data.path, "-c", "port=\(chosen)", "-c", "listen_addresses=127.0.0.1",
      "-c", "unix_socket_directories=\(cluster.socketFolder)", "-c", "logging_collector=off",
      "-c", "max_connections=64", "-c", "log_timezone=UTC", "-c", "timezone=UTC",
    ]
    if !isDurable { arguments += notDurable.flatMap { ["-c", $0] } }
    var launch = cluster.launch(programs + "/postgres", arguments)
    launch.signalWithParent = "INT"  // PostgreSQL's fast shutdown
    // Backends of a server that was killed may hold its shared memory for a moment longer.
    var attempts = 0
    while true {
      attempts += 1
      let process = try await ChildProcess.start(launch)
      do {
        try await waitUntilReady(process, seconds: 60) { cluster.isReady(process.processID) }
      } catch let error as DevelopmentServerError {
        await process.stop(SIGQUIT)
        if attempts < 20, "\(error)".contains("pre-existing shared memory block") {
          try await Task.sleep(for: .milliseconds(250))
          continue
        }
        throw error
      } catch {
        await process.stop(SIGINT)
        throw error
      }
      logger.info("private PostgreSQL ready", metadata: ["port": "\(chosen)"])
      return PrivatePostgres(
        port: chosen, folder: cluster.folder,
        connectionString: "postgresql://oppu@127.0.0.1:\(chosen)/oppu",
        server: .own(process, cluster), logger: logger)
    }
  }

  private static let notDurable = [
    "fsync=off", "synchronous_commit=off", "full_page_writes=off",
  ]

  private static func start(
    by script: URL, folder: URL, port: Int?, isDurable: Bool, logger: Logger
  ) async throws -> PrivatePostgres {
    let (server, address) = try await ScriptedServer.start(
      script: script, folder: folder, members: [], address: "url",
      arguments: OutsideServers.version(of: "OPPU_TEST_POSTGRES")
        + (isDurable ? [] : notDurable.flatMap { ["--set", $0] }))
    let url = address.trimmingCharacters(in: .whitespacesAndNewlines)
    guard let found = URLComponents(string: url)?.port, port == nil || port == found else {
      await server.kill()
      throw DevelopmentServerError.port(port ?? 0, reason: "PostgreSQL listens at \(address)")
    }
    logger.info("PostgreSQL from outside ready", metadata: ["port": "\(found)"])
    return PrivatePostgres(
      port: found, folder: folder, connectionString: url, server: .fromOutside(server),
      logger: logger)
  }

  /// Stops the server: fast shutdown, SIGKILL after `grace`.
  public func stop(grace: Duration = .seconds(15)) async {
    switch server {
    case .own(let process, let cluster):
      await process.stop(SIGINT, grace: grace)
      cluster.lock.release()
      try? FileManager.default.removeItem(atPath: cluster.socketFolder)
    case .fromOutside(let script): await script.stop()
    }
    logger.debug("private PostgreSQL stopped")
  }

  /// Ends the server as a crash would.
  public func kill() async {
    switch server {
    case .own(let process, let cluster):
      await process.stop(SIGKILL)
      cluster.lock.release()
    case .fromOutside(let script): await script.kill()
    }
  }

  /// Waits until the server has ended by itself; returns how in words.
  public func waitForEnd() async -> String {
    switch server {
    case .own(let process, _): ChildProcess.describe(await process.waitForEnd())
    case .fromOutside(let script): ChildProcess.describe(await script.waitForEnd())
    }
  }

  /// The folder of the newest `initdb` and `postgres`.
  private static func findPrograms() throws -> String {
    let files = FileManager.default
    let debian = "/usr/lib/postgresql"
    let versions = ((try? files.contentsOfDirectory(atPath: debian)) ?? [])
      .sorted { (Double($0) ?? 0) > (Double($1) ?? 0) }
    var folders = versions.map { "\(debian)/\($0)/bin" }
    folders += ["/opt/homebrew/bin", "/usr/local/bin", "/usr/pgsql/bin"]
    if let initdb = Programs.find("initdb", in: folders) {
      // Homebrew and others link the programs into one folder; the real one holds them all.
      let folder = URL(fileURLWithPath: initdb).resolvingSymlinksInPath()
        .deletingLastPathComponent().path
      if files.isExecutableFile(atPath: folder + "/postgres") { return folder }
    }
    throw DevelopmentServerError.programMissing(
      name: "PostgreSQL's server (initdb, postgres)",
      hint: "install it (Debian: apt-get install postgresql; macOS: brew install postgresql@17)")
  }
}
