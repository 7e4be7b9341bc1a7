// What an operator types in a trial: looks, erasures, the queue. Every command has to end, and none may crash.

import Foundation

struct ChaosOperator: Sendable {
  let workers: ChaosWorkers
  let ledger: ChaosLedger
  let users: [String]

  private static let looks: [[String]] = [
    ["status"], ["lag"], ["doctor"], ["users", "list"], ["jobs", "list"], ["adapters", "list"],
    ["shifts", "list"], ["dlq", "list"], ["offsets", "show"], ["topics", "list"],
    ["queue", "show"],
    ["tasks", "list"], ["users", "receipts"],
  ]

  func run(_ plan: ChaosPlan) async throws {
    var plan = plan
    while !Task.isCancelled {
      let (act, after) = plan.nextAct(users: users.count)
      try await Task.sleep(for: after)
      switch act {
      case .erase(let index): try await erase(users[index])
      case .look(let number): try await command(Self.looks[number % Self.looks.count])
      case .pauseQueue(let time):
        try await command(["queue", "pause", "--execute"])
        try? await Task.sleep(for: time)
        try await command(["queue", "resume", "--execute"], untilDone: true)
      }
    }
  }

  /// - Parameter untilDone: again and again, as a person would who is told that a server is away.
  @discardableResult
  private func command(_ words: [String], untilDone: Bool = false) async throws -> Int32? {
    for attempt in 0..<20 {
      let (status, output) = try await workers.run(["admin"] + words)
      await ledger.countCommand()
      guard let status else {
        await ledger.find("admin \(words.joined(separator: " ")) had not ended after 90 s")
        return nil
      }
      if status & 0x7F != 0 {
        await ledger.find(
          "admin \(words.joined(separator: " ")) ended with signal \(status & 0x7F): \(output.suffix(300))"
        )
      }
      let code = (status >> 8) & 0xFF
      if code == 0 || !untilDone || attempt == 19 { return code }
      try? await Task.sleep(for: .seconds(2))
    }
    return nil
  }

  /// An erasure that is not said to be done is asked for again.
  private func erase(_ user: String) async throws {
    let first = Date()
    for _ in 0..<20 {
      let begin = Date()
      let code = try await command(["users", "erase", user, "--execute"])
      if code == 0 {
        await ledger.add(ChaosLedger.Erasure(begin: begin, end: Date(), isCertain: true), of: user)
        return
      }
      // Nothing is known of the user, or somebody was away: it may or may not have been done.
      await ledger.add(ChaosLedger.Erasure(begin: first, end: Date(), isCertain: false), of: user)
      if code == 1 { return }
      try await Task.sleep(for: .seconds(2))
    }
  }
}
