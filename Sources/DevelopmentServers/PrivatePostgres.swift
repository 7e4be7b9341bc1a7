// A PostgreSQL cluster of our own, in a folder of our own, beside any system one.

import Foundation
import StructuredLogging

/// A private PostgreSQL server on 127.0.0.1 and a Unix socket, for development and tests.
///
/// Only the loopback address and the socket are open, and every local user is trusted: never use
/// it for data that matters. PostgreSQL refuses to run as root, so for root it runs as `postgres`.
public final class PrivatePostgres: Sendable {
  /// libpq's URI of the database `oppu`.
  public let connectionString: String
  public let port: Int
  /// The folder that holds the cluster; another than asked for if the server's user could not
  /// have reached that.
  public let folder: URL
  private let process: ChildProcess
  private let cluster: PostgresCluster
  private let logger: Logger

  private init(port: Int, cluster: PostgresCluster, process: ChildProcess, logger: Logger) {
    self.port = port
    self.cluster = cluster
    folder = cluster.folder
    self.process = process
    self.logger = logger
    connectionString = "postgresql://oppu@127.0.0.1:\(port)/oppu"
  }

  public var processID: pid_t { process.processID }
  public var isRunning: Bool { process.isRunning }

  /// Starts the server on the cluster in `folder`, which is made on first use, and waits until it
  /// takes connections.
  ///
  /// - Parameters:
  ///   - folder: holds `data/` and `postgres.log`.
  ///   - port: a free one by default.
  ///   - isDurable: false turns fsync off, for tests whose data may be lost with the machine.
  ///   - primary: the server is its standby: a copy that follows it, and that `pg_promote()` makes a primary.
  /// - Throws: `DevelopmentServerError`.
  public static func start(
    folder: URL, port: Int? = nil, isDurable: Bool = true,
    standbyOf primary: PrivatePostgres? = nil,
    logger: Logger = Logger(label: "oppu.postgres.server")
  ) async throws -> PrivatePostgres {
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
    if !isDurable {
      arguments += [
        "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
      ]
    }
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
      return PrivatePostgres(port: chosen, cluster: cluster, process: process, logger: logger)
    }
  }

  /// Stops the server: fast shutdown, SIGKILL after `grace`.
  public func stop(grace: Duration = .seconds(15)) async {
    await process.stop(SIGINT, grace: grace)
    cluster.lock.release()
    try? FileManager.default.removeItem(atPath: cluster.socketFolder)
    logger.debug("private PostgreSQL stopped")
  }

  /// Ends the server as a crash would.
  public func kill() async {
    await process.stop(SIGKILL)
    cluster.lock.release()
  }

  /// Waits until the server has ended by itself; returns how in words.
  public func waitForEnd() async -> String { ChildProcess.describe(await process.waitForEnd()) }

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
