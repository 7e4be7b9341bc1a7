// The files of a private PostgreSQL cluster: who may own them, making them, and what they tell.

import Foundation
import StructuredLogging

/// A cluster's folders and the user that its server runs as.
struct PostgresCluster {
  let folder: URL
  let socketFolder: String
  /// Set when this process is root.
  let user: String?
  /// Nobody else uses the cluster meanwhile.
  let lock: FolderLock

  var data: URL { folder.appendingPathComponent("data") }
  private var log: String { folder.appendingPathComponent("postgres.log").path }

  /// Makes the cluster if it is not there, and stops a server that an earlier run left on it. One that another
  /// process is running is left alone.
  ///
  /// - Parameter primary: the port of a server that this is to be a standby of.
  static func prepare(
    folder: URL, programs: String, isDurable: Bool, primary: Int? = nil, logger: Logger
  ) async throws -> PostgresCluster {
    let cluster = try await locate(folder: folder, logger: logger)
    try await cluster.stopLeftover(logger: logger)
    if !FileManager.default.fileExists(
      atPath: cluster.data.appendingPathComponent("PG_VERSION").path)
    {
      logger.info(
        "making a private PostgreSQL cluster", metadata: ["folder": "\(cluster.folder.path)"])
      if let primary {
        try await cluster.copy(primary, programs: programs)
      } else {
        try await cluster.create(programs: programs, isDurable: isDurable)
      }
    }
    return cluster
  }

  /// How to run one of PostgreSQL's programs as the cluster's user.
  func launch(_ program: String, _ arguments: [String]) -> ChildProcess.Launch {
    // No variable of libpq or of the locale may change what the programs do.
    var environment = ProcessInfo.processInfo.environment.filter { name, _ in
      !name.hasPrefix("PG") && !name.hasPrefix("LC_") && name != "LANG"
    }
    environment["LC_ALL"] = "C"
    return ChildProcess.Launch(
      executable: program, arguments: arguments, environment: environment,
      workingDirectory: folder.path, logFile: log, user: user)
  }

  /// Whether the server with this process id takes connections, as `pg_ctl` finds it: the eighth
  /// line of postmaster.pid.
  func isReady(_ processID: pid_t) -> Bool {
    let lines = postmasterLines()
    return lines.count >= 8 && pid_t(lines[0]) == processID && lines[7] == "ready"
  }

  private func postmasterLines() -> [String] {
    let file = data.appendingPathComponent("postmaster.pid").path
    guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return [] }
    return text.split(separator: "\n", omittingEmptySubsequences: false)
      .map { $0.trimmingCharacters(in: .whitespaces) }
  }

  // MARK: Where

  private static func locate(folder: URL, logger: Logger) async throws -> PostgresCluster {
    let files = FileManager.default
    let wanted = folder.standardizedFileURL
    var chosen = wanted
    let user = geteuid() == 0 ? "postgres" : nil
    do {
      try files.createDirectory(at: wanted, withIntermediateDirectories: true)
      if let user {
        guard let entry = getpwnam(user)?.pointee else {
          throw DevelopmentServerError.folder(
            path: wanted.path,
            reason: "root cannot run PostgreSQL and there is no user \"postgres\"")
        }
        try setOwner(of: wanted, to: entry)
        if !(try await canEnter(wanted, user: user)) {
          chosen = files.temporaryDirectory
            .appendingPathComponent("oppu-postgres-\(fingerprint(of: wanted.path))")
          logger.notice(
            "the user postgres cannot reach the folder, so the cluster lies elsewhere",
            metadata: ["wanted": "\(wanted.path)", "used": "\(chosen.path)"])
          try files.createDirectory(at: chosen, withIntermediateDirectories: true)
          try setOwner(of: chosen, to: entry)
        }
      }
      // A socket's path may have 107 bytes, of which PostgreSQL's file name takes up to 20.
      let inside = chosen.appendingPathComponent("socket").path
      let socketFolder =
        inside.utf8.count <= 80
        ? inside : "/tmp/oppu-postgres-socket-\(fingerprint(of: chosen.path))"
      try files.createDirectory(
        atPath: socketFolder, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
      if let user, let entry = getpwnam(user)?.pointee {
        try setOwner(of: URL(fileURLWithPath: socketFolder), to: entry)
      }
      return PostgresCluster(
        folder: chosen, socketFolder: socketFolder, user: user, lock: try FolderLock(chosen))
    } catch let error as DevelopmentServerError {
      throw error
    } catch {
      throw DevelopmentServerError.folder(path: chosen.path, reason: "\(error)")
    }
  }

  private static func setOwner(of folder: URL, to entry: passwd) throws {
    guard chown(folder.path, entry.pw_uid, entry.pw_gid) == 0 else {
      throw DevelopmentServerError.folder(
        path: folder.path, reason: "chown: \(String(cString: strerror(errno)))")
    }
  }

  /// Asks the system itself: mode bits, ACLs and mounts all count.
  private static func canEnter(_ folder: URL, user: String) async throws -> Bool {
    let test = ChildProcess.Launch(
      executable: Programs.find("test", in: ["/usr/bin", "/bin"]) ?? "/usr/bin/test",
      arguments: ["-x", folder.path, "-a", "-w", folder.path], logFile: "/dev/null", user: user)
    return await (try ChildProcess.start(test)).waitForEnd() == 0
  }

  /// FNV-1a of a path: a short name that stays the same from run to run.
  private static func fingerprint(of path: String) -> String {
    let hash = path.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) {
      ($0 ^ UInt64($1)) &* 0x100_0000_01B3
    }
    return String(hash, radix: 36)
  }

  // MARK: Making

  /// Makes the cluster beside its place and renames it, so that a half-made one is never used.
  private func create(programs: String, isDurable: Bool) async throws {
    let files = FileManager.default
    let draft = folder.appendingPathComponent("data.new")
    try? files.removeItem(at: draft)
    var arguments = [
      "-D", draft.path, "-U", "oppu", "--auth=trust", "--encoding=UTF8", "--locale=C",
    ]
    if !isDurable { arguments.append("--no-sync") }
    try await ChildProcess.run(launch(programs + "/initdb", arguments))
    // Single-user mode makes the database without a server or a client program.
    let script = folder.appendingPathComponent("create-database.sql")
    do { try "CREATE DATABASE oppu;\n".write(to: script, atomically: true, encoding: .utf8) } catch
    {
      throw DevelopmentServerError.folder(path: script.path, reason: "\(error)")
    }
    var single = launch(programs + "/postgres", ["--single", "-D", draft.path, "postgres"])
    if !isDurable { single.arguments.insert(contentsOf: ["-F"], at: 1) }
    single.inputFile = script.path
    try await ChildProcess.run(single)
    try? files.removeItem(at: script)
    try use(draft)
  }

  /// Copies a running server's cluster, as one that follows it.
  private func copy(_ port: Int, programs: String) async throws {
    let draft = folder.appendingPathComponent("data.new")
    try? FileManager.default.removeItem(at: draft)
    try await ChildProcess.run(
      launch(
        programs + "/pg_basebackup",
        ["-h", "127.0.0.1", "-p", "\(port)", "-U", "oppu", "-D", draft.path, "--no-sync"]
          + ["--write-recovery-conf", "--checkpoint=fast"]))
    try use(draft)
  }

  private func use(_ draft: URL) throws {
    do { try FileManager.default.moveItem(at: draft, to: data) } catch {
      throw DevelopmentServerError.folder(path: data.path, reason: "\(error)")
    }
  }

  /// A server that outlived the process that started it would keep its lock on the cluster.
  private func stopLeftover(logger: Logger) async throws {
    guard let text = postmasterLines().first, let processID = pid_t(text), processID > 1,
      isServerOfThisCluster(processID)
    else { return }  // no server, or a stale file: PostgreSQL itself clears that away
    logger.notice("stopping a server left by an earlier run", metadata: ["pid": "\(processID)"])
    kill(processID, SIGINT)
    for _ in 0..<500 {
      if !isServerOfThisCluster(processID) { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    kill(processID, SIGKILL)
    try await Task.sleep(for: .milliseconds(200))
  }

  /// Whether a process is a server that works in this cluster's data folder.
  private func isServerOfThisCluster(_ processID: pid_t) -> Bool {
    #if os(Linux)
      let folder = try? FileManager.default.destinationOfSymbolicLink(
        atPath: "/proc/\(processID)/cwd")
      return folder == data.resolvingSymlinksInPath().path
    #else
      // Without /proc the id in the file is trusted only if such a process exists.
      return kill(processID, 0) == 0
    #endif
  }
}
