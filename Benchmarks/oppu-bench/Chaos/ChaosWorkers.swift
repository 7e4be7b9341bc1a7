// The worker processes of a trial, and somebody who starts them again when they end.

import DevelopmentServers
import Foundation
import Worker

actor ChaosWorkers {
  /// A worker's process, and what is meant to become of it.
  private struct Member {
    var process: ChildProcess?
    var isWanted = true
    var startedAt = ContinuousClock.now
    var logLength = 0
    /// Resident bytes by the process's age.
    var memory: [(age: Duration, bytes: Int)] = []
  }

  private let program: String
  private let folder: URL
  private let environment: [String: String]
  private let ledger: ChaosLedger
  private var members: [Member]
  private(set) var peakMemory = 0

  /// - Parameter settings: variables of the environment that both the workers and the commands see; no other
  ///   setting of the project's reaches them.
  init(
    program: String, count: Int, folder: URL, settings: [String: String], ledger: ChaosLedger
  ) {
    self.program = program
    self.folder = folder
    self.ledger = ledger
    environment = ProcessInfo.processInfo.environment.filter {
      !$0.key.hasPrefix("OPPU_") && !$0.key.hasPrefix("PG")
    }.merging(settings) { $1 }
    members = Array(repeating: Member(), count: count)
  }

  // MARK: Commands

  /// Runs a command of the worker's program to its end.
  ///
  /// - Returns: its wait status, nil where it had to be killed after `limit`, and what it printed.
  func run(
    _ arguments: [String], limit: Duration = .seconds(90)
  ) async throws -> (status: Int32?, output: String) {
    let log = folder.appendingPathComponent("command-\(UUID().uuidString.prefix(8)).log")
    let process = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: program, arguments: arguments, environment: environment, logFile: log.path))
    let killer = Task {
      try await Task.sleep(for: limit)
      process.signal(SIGKILL)
      return true
    }
    let status = await process.waitForEnd()
    killer.cancel()
    let isKilled = (try? await killer.value) ?? false
    let output = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    try? FileManager.default.removeItem(at: log)
    return (isKilled ? nil : status, output)
  }

  // MARK: Life

  private func logFile(_ index: Int) -> URL {
    folder.appendingPathComponent("worker-\(index).log")
  }

  private func log(_ index: Int, from start: Int = 0) -> String {
    guard let data = try? Data(contentsOf: logFile(index)) else { return "" }
    return String(decoding: data.dropFirst(start), as: UTF8.self)
  }

  private func start(_ index: Int) async throws {
    members[index].logLength = (try? Data(contentsOf: logFile(index)).count) ?? 0
    members[index].startedAt = .now
    members[index].memory = []
    let process = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: program, arguments: ["run"], environment: environment,
        logFile: logFile(index).path))
    guard members[index].isWanted else { return await process.stop(SIGKILL) }
    members[index].process = process
  }

  /// Starts the workers, and again those that end though nobody wished it: which is found, unless one ended while it
  /// started and something else was wrong.
  func supervise() async throws {
    while !Task.isCancelled {
      for index in members.indices where members[index].isWanted {
        if let process = members[index].process, let status = process.endStatus {
          let text = log(index, from: members[index].logLength)
          let wasReady = text.contains("worker ready")
          let isDisturbed = await ledger.isDisturbed
          if wasReady || !isDisturbed {
            let lines = text.split(separator: "\n").suffix(4).joined(separator: " | ")
            await ledger.find(
              "worker \(index) ended by itself with \(ChildProcess.describe(status)): \(lines)")
          }
          members[index].process = nil
          try await Task.sleep(for: .seconds(1))
        }
        if members[index].process == nil, members[index].isWanted { try await start(index) }
      }
      sampleMemory()
      await ledger.note(isMachineBusy: Self.isMachineBusy)
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  /// Ends a worker as an orchestrator does, and finds it where that takes longer than it may. Nobody starts it again
  /// before ``want()``.
  func stop(_ index: Int) async {
    members[index].isWanted = false
    guard let process = members[index].process else { return }
    let begin = ContinuousClock.now
    let limit = WorkerConfiguration().shutdownDeadline + .seconds(10)
    process.signal(SIGTERM)
    while process.isRunning, .now - begin < limit { try? await Task.sleep(for: .milliseconds(50)) }
    if process.isRunning {
      await ledger.find("worker \(index) had not stopped \(limit) after SIGTERM")
      await process.stop(SIGKILL)
    }
    members[index].process = nil
  }

  func stopAll() async {
    await withTaskGroup(of: Void.self) { group in
      for index in members.indices { group.addTask { await self.stop(index) } }
    }
  }

  func kill(_ index: Int) async {
    members[index].isWanted = false
    await members[index].process?.stop(SIGKILL)
    members[index].process = nil
  }

  func killAll() async { for index in members.indices { await kill(index) } }

  func freeze(_ index: Int, _ time: Duration) async {
    let process = members[index].process
    process?.signal(SIGSTOP)
    try? await Task.sleep(for: time)
    process?.signal(SIGCONT)
  }

  /// All of them are to run.
  func want() { for index in members.indices { members[index].isWanted = true } }

  /// More threads want to run than a trial has of its own.
  private static var isMachineBusy: Bool {
    var load = 0.0
    return getloadavg(&load, 1) == 1
      && load > 8 * Double(ProcessInfo.processInfo.activeProcessorCount)
  }

  // MARK: Memory

  private func residentBytes(_ index: Int) -> Int? {
    guard let process = members[index].process, process.isRunning,
      let text = try? String(contentsOfFile: "/proc/\(process.processID)/status", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmRSS:") }),
      let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return nil }
    return kibibytes << 10
  }

  /// Of each worker, nil where it does not run.
  var memory: [Int?] { members.indices.map(residentBytes) }

  private func sampleMemory() {
    for index in members.indices {
      guard let bytes = residentBytes(index) else { continue }
      peakMemory = max(peakMemory, bytes)
      let age = ContinuousClock.now - members[index].startedAt
      if let last = members[index].memory.last, age - last.age < .seconds(5) { continue }
      members[index].memory.append((age, bytes))
    }
  }

  /// By how much the most that a process took grew from the first half of its life to the second, of those that
  /// lived for five minutes. A training or a long answer takes its memory in either half; what leaks is in the second.
  func memoryGrowth() -> [Int] {
    members.compactMap { member in
      guard let end = member.memory.last?.age, end > .seconds(300) else { return nil }
      let halves = [true, false].map { isFirst in
        member.memory.filter { ($0.age < end / 2) == isFirst }.map(\.bytes).max()
      }
      guard let first = halves[0], let second = halves[1] else { return nil }
      return second - first
    }
  }
}
