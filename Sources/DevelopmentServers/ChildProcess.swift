// A child process that dies with this one, whatever ends this one.

import Foundation
import Synchronization

/// A program started by this process.
///
/// It runs in a process group of its own, so that Ctrl-C in the terminal reaches only this process,
/// which then stops its children in order. On Linux the kernel also signals it when this process
/// ends in any other way, even by SIGKILL (`PR_SET_PDEATHSIG`, set through `setpriv`).
public final class ChildProcess: Sendable {
  /// What to start, and how.
  public struct Launch: Sendable {
    /// A path.
    public var executable: String
    /// Without the program's name before them.
    public var arguments: [String]
    /// All that the program gets; nothing of this process's comes on top.
    public var environment: [String: String]
    /// Nil: this process's.
    public var workingDirectory: String?
    /// Where both output streams are appended.
    public var logFile: String
    /// What the program reads as standard input; empty by default.
    public var inputFile = "/dev/null"
    /// The user to run as; only root can choose one.
    public var user: String?
    /// What the kernel sends the child when this process ends.
    public var signalWithParent = "TERM"

    public init(
      executable: String, arguments: [String],
      environment: [String: String] = ProcessInfo.processInfo.environment,
      workingDirectory: String? = nil, logFile: String, user: String? = nil
    ) {
      self.executable = executable
      self.arguments = arguments
      self.environment = environment
      self.workingDirectory = workingDirectory
      self.logFile = logFile
      self.user = user
    }
  }

  private enum State {
    case running([CheckedContinuation<Int32, Never>])
    case ended(Int32)
  }

  public let processID: pid_t
  /// The last part of the executable's path.
  public let name: String
  private let logFile: String
  private let state = Mutex(State.running([]))

  private init(processID: pid_t, launch: Launch) {
    self.processID = processID
    name = URL(fileURLWithPath: launch.executable).lastPathComponent
    logFile = launch.logFile
    // One thread waits for the child; it holds `self` until the child has ended.
    let waiter = Thread { [self] in waitUntilEnded() }
    waiter.name = "oppu.child.\(name)"
    waiter.start()
  }

  /// Starts a program.
  ///
  /// - Throws: `DevelopmentServerError.cannotStart`.
  public static func start(_ launch: Launch) async throws -> ChildProcess {
    let processID = try await withCheckedThrowingContinuation { continuation in
      Spawner.shared.perform { continuation.resume(with: Result { try spawn(launch) }) }
    }
    return ChildProcess(processID: processID, launch: launch)
  }

  /// Runs a program to its end.
  ///
  /// - Throws: `DevelopmentServerError.failed` unless it ends with 0.
  public static func run(_ launch: Launch) async throws {
    let child = try await start(launch)
    let status = await child.waitForEnd()
    guard status == 0 else {
      throw DevelopmentServerError.failed(
        program: child.name, status: describe(status), log: child.lastLogLines())
    }
  }

  /// The wait status if the child has ended.
  public var endStatus: Int32? {
    state.withLock { state in
      if case .ended(let status) = state { return status }
      return nil
    }
  }

  /// Whether it has not ended.
  public var isRunning: Bool { endStatus == nil }

  /// Waits until the child has ended; returns its wait status.
  @discardableResult
  public func waitForEnd() async -> Int32 {
    await withCheckedContinuation { continuation in
      let status: Int32? = state.withLock { state in
        switch state {
        case .running(let waiters):
          state = .running(waiters + [continuation])
          return nil
        case .ended(let status): return status
        }
      }
      if let status { continuation.resume(returning: status) }
    }
  }

  /// Sends a signal unless the child has ended.
  public func signal(_ number: Int32) {
    state.withLock { state in
      // Under the lock the child is not reaped yet, so its id is still its own.
      if case .running = state { kill(processID, number) }
    }
  }

  /// Sends `number`, and SIGKILL if the child has not ended within `grace`.
  public func stop(_ number: Int32 = SIGTERM, grace: Duration = .seconds(15)) async {
    signal(number)
    let killer = Task {
      try await Task.sleep(for: grace)
      self.signal(SIGKILL)
    }
    await waitForEnd()
    killer.cancel()
  }

  /// The end of the log, for error messages.
  public func lastLogLines(_ count: Int = 5) -> String { Self.lastLines(of: logFile, count) }

  static func lastLines(of path: String, _ count: Int) -> String {
    guard let data = try? Data(contentsOf: URL(fileURLWithPath: path)) else { return "" }
    return String(decoding: data.suffix(8192), as: UTF8.self)
      .split(separator: "\n").suffix(count).joined(separator: " | ")
  }

  /// A wait status in words.
  public static func describe(_ status: Int32) -> String {
    status & 0x7F == 0 ? "exit code \((status >> 8) & 0xFF)" : "signal \(status & 0x7F)"
  }

  private func waitUntilEnded() {
    // WNOWAIT leaves the child a zombie, so its id cannot be reused before the state says "ended".
    var information = siginfo_t()
    while waitid(P_PID, id_t(processID), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
    let waiters: [CheckedContinuation<Int32, Never>]
    var status: Int32 = 0
    (waiters, status) = state.withLock { state in
      var status: Int32 = 0
      while waitpid(processID, &status, 0) < 0, errno == EINTR {}
      guard case .running(let waiters) = state else { return ([], status) }
      state = .ended(status)
      return (waiters, status)
    }
    for waiter in waiters { waiter.resume(returning: status) }
  }

  // MARK: Spawning

  /// Blocks; runs on the spawner's thread.
  private static func spawn(_ launch: Launch) throws -> pid_t {
    var command = [launch.executable] + launch.arguments
    #if os(Linux)
      var wrapper: [String] = []
      if let user = launch.user { wrapper += ["--reuid", user, "--regid", user, "--init-groups"] }
      guard let setpriv = Programs.find("setpriv", in: ["/usr/bin", "/bin"]) else {
        throw DevelopmentServerError.programMissing(
          name: "setpriv", hint: "install util-linux 2.33 or newer")
      }
      command = [setpriv] + wrapper + ["--pdeathsig", launch.signalWithParent, "--"] + command
      // Swift does not see glibc's posix_spawn action for this.
      if let folder = launch.workingDirectory {
        command = ["/usr/bin/env", "-C", folder] + command
      }
    #endif
    // The log is opened here, as this process's user, so the child needs no right to create it.
    let log = open(launch.logFile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard log >= 0 else {
      throw DevelopmentServerError.cannotStart(
        program: launch.executable,
        reason: "its log \(launch.logFile) cannot be opened: \(String(cString: strerror(errno)))")
    }
    defer { close(log) }
    #if os(Linux)
      var actions = posix_spawn_file_actions_t()
      var attributes = posix_spawnattr_t()
    #else
      var actions: posix_spawn_file_actions_t?
      var attributes: posix_spawnattr_t?
    #endif
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, 0, launch.inputFile, O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, log, 1)
    posix_spawn_file_actions_adddup2(&actions, log, 2)
    #if !os(Linux)
      if let folder = launch.workingDirectory {
        posix_spawn_file_actions_addchdir_np(&actions, folder)
      }
    #endif
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    let arguments = command.map { strdup($0) } + [nil]
    let environment = launch.environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in arguments + environment { free(pointer) } }
    var processID: pid_t = 0
    let failure = posix_spawn(
      &processID, command[0], &actions, &attributes, arguments, environment)
    guard failure == 0 else {
      throw DevelopmentServerError.cannotStart(
        program: launch.executable, reason: String(cString: strerror(failure)))
    }
    return processID
  }
}

/// The thread that starts every child. Linux ties `PR_SET_PDEATHSIG` to the thread that started
/// the child, not to the process, so this one never ends.
private final class Spawner: Sendable {
  static let shared = Spawner()
  private let work = Mutex<[@Sendable () -> Void]>([])
  private let available = DispatchSemaphore(value: 0)

  private init() {
    let thread = Thread { [self] in
      while true {
        available.wait()
        let next = work.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        next?()
      }
    }
    thread.name = "oppu.spawner"
    thread.start()
  }

  func perform(_ body: @escaping @Sendable () -> Void) {
    work.withLock { $0.append(body) }
    available.signal()
  }
}

enum Programs {
  /// The first executable of this name in the folders, then in PATH.
  static func find(_ name: String, in folders: [String]) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    let candidates = folders + path.split(separator: ":").map(String.init)
    return candidates.map { $0 + "/" + name }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }
}
