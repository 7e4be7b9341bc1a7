// What is left in the end, held against what was sent.

import Foundation
import PostgresClient

struct ChaosCheck: Sendable {
  let database: PostgresClient
  let workers: ChaosWorkers
  let ledger: ChaosLedger

  // MARK: Waiting

  /// What is still under way, and what has become of it: where neither changes any more, nothing moves.
  struct Rest: Sendable, Equatable {
    var open: [String] = []
    var progress = ""
  }

  func rest() async throws -> Rest {
    var rest = Rest()
    let unanswered = await ledger.unanswered.count
    if unanswered > 0 { rest.open.append("\(unanswered) requests without a reply") }
    let row = try await database.query(
      """
      SELECT (SELECT count(*) FROM training_jobs WHERE state IN ('queued', 'running')) AS jobs,
        (SELECT count(*) FROM outbox) AS outbox,
        (SELECT count(*) FROM user_task_state WHERE scheduled_through < event_count) AS streams,
        (SELECT md5(string_agg(state || coalesce(progress::text, ''), ' ' ORDER BY job_id))
          FROM training_jobs) AS progress
      """
    ).first
    for (name, what) in [
      ("jobs", "open jobs"), ("outbox", "messages not told"), ("streams", "streams not looked at"),
    ] {
      if let count = try row?.decode(name, as: Int.self), count > 0 {
        rest.open.append("\(count) \(what)")
      }
    }
    rest.progress = try row?.decode("progress", as: String?.self) ?? ""
    let missing = try await missingEvents().count
    if missing > 0 { rest.open.append("\(missing) events not stored") }
    return rest
  }

  // MARK: Events

  private func stored() async throws -> [String: [(id: String, number: Int)]] {
    var stored: [String: [(id: String, number: Int)]] = [:]
    for row in try await database.query(
      """
      SELECT user_id, event_id FROM behavior_events WHERE topic <> \(ChaosCrowds.topic)
      ORDER BY user_id, task, ordinal
      """)
    {
      let id = try row.decode("event_id", as: String.self)
      let number = id.split(separator: "#").last.flatMap { Int($0) } ?? -1
      stored[try row.decode("user_id", as: String.self), default: []].append((id, number))
    }
    return stored
  }

  /// Events that must be there: acknowledged, and sent after everything that may have erased them.
  private func expected() async -> [String: [ChaosLedger.Event]] {
    let erasures = await ledger.erasures
    var expected: [String: [ChaosLedger.Event]] = [:]
    for (user, events) in await ledger.events {
      let last = erasures[user]?.map(\.end).max() ?? .distantPast
      expected[user] = events.filter { $0.isAcknowledged && $0.sentAt > last }
    }
    return expected
  }

  private func missingEvents() async throws -> [String] {
    let stored = try await stored()
    return await expected().flatMap { user, events in
      let there = Set((stored[user] ?? []).map(\.id))
      return events.map(\.id).filter { !there.contains($0) }
    }.sorted()
  }

  func checkEvents() async throws {
    let missing = try await missingEvents()
    if !missing.isEmpty {
      await ledger.find(
        "\(missing.count) events are lost: \(missing.prefix(5).joined(separator: ", "))")
    }
    let erasures = await ledger.erasures
    let sent = await ledger.events
    for (user, rows) in try await stored() {
      let ids = rows.map(\.id)
      if Set(ids).count != ids.count {
        await ledger.find("\(ids.count - Set(ids).count) events of \(user) are doubled")
      }
      let known = Dictionary(
        (sent[user] ?? []).map { ($0.number, $0) }, uniquingKeysWith: { $1 })
      let inOrder = rows.map(\.number).filter { known[$0]?.isResent == false }
      if inOrder != inOrder.sorted() { await ledger.find("the events of \(user) are out of order") }
      let begin = erasures[user]?.filter(\.isCertain).map(\.begin).max() ?? .distantPast
      // The second of a message's time that an erasure's is compared with.
      let back = rows.filter { (known[$0.number]?.sentAt ?? .distantFuture) < begin - 1 }
      if !back.isEmpty {
        await ledger.find("\(back.count) events of \(user), who was erased, are back")
      }
      let strange = rows.filter { known[$0.number] == nil }
      if !strange.isEmpty { await ledger.find("events that nobody sent: \(strange.prefix(3))") }
    }
    for (user, list) in erasures {
      guard let begin = list.filter(\.isCertain).map(\.begin).max() else { continue }
      for (table, column) in [
        ("answers", "answered_at"), ("adapters", "created_at"), ("shift_decisions", "decided_at"),
        ("training_jobs", "created_at"),
      ] {
        let count =
          try await database.query(
            "SELECT count(*) AS n FROM \(unsafeSQL: table) WHERE user_id = \(user) AND \(unsafeSQL: column) < \(begin)"
          ).first?.decode("n", as: Int.self) ?? 0
        if count > 0 { await ledger.find("\(count) rows of \(table) of \(user), who was erased") }
      }
    }
    let strange = await ledger.strangeLetters
    if let one = strange.first {
      await ledger.find(
        "\(strange.count) dead letters of what nobody sent as an event: \(one.prefix(200))")
    }
    let letters = await ledger.letters
    let silent = await ledger.poison.filter { letters[$0] == nil }
    if !silent.isEmpty { await ledger.find("\(silent.count) refused events without a dead letter") }
  }

  // MARK: Requests

  func checkRequests() async {
    let unanswered = await ledger.unanswered
    if !unanswered.isEmpty {
      let kinds = Dictionary(grouping: unanswered, by: \.kind.rawValue).mapValues(\.count)
      await ledger.find("\(unanswered.count) requests without a reply: \(kinds)")
    }
    let replies = await ledger.replies
    var late: [String: [String]] = [:]
    var failed: [String: [String]] = [:]
    for request in await ledger.requests.values where request.isAcknowledged {
      let own = replies[request.id] ?? []
      switch request.kind {
      case .label, .text, .retrieval, .longAnswer, .hugeWeights:
        if let code = own.first(where: {
          $0.code == "internal_error" || $0.code == "invalid_message"
        })?.code {
          await ledger.find("\(request.id) (\(request.kind.rawValue)) was answered with \(code)")
        }
      case .unknownTask, .forbiddenTopic, .damaged:
        if own.contains(where: { $0.status == "ok" }) {
          await ledger.find("\(request.id) (\(request.kind.rawValue)) was answered")
        }
      case .unknownTopic, .hasty, .longHistory: break
      }
      // Nobody is held up: where neither broker nor workers were disturbed, a reply comes by the deadline. What a
      // request before it may cost is part of that.
      guard let first = own.min(by: { $0.at < $1.at }), request.kind != .hasty else { continue }
      let due = request.sentAt + (request.deadline / .seconds(1)) + 3
      let from = request.sentAt - 20
      if first.at > due {
        if await !ledger.wasDisturbed([.broker, .workers, .machine], from: from, to: due) {
          late[request.kind.rawValue, default: []].append(request.id)
        }
      } else if let code = first.code, [.label, .text, .retrieval].contains(request.kind),
        await !ledger.wasDisturbed(
          [.database, .broker, .workers, .machine], from: from, to: first.at)
      {
        failed["\(request.kind.rawValue) \(code)", default: []].append(request.id)
      }
    }
    for (kind, ids) in late {
      await ledger.find(
        "\(kind): \(ids.count) replies after the deadline, undisturbed: \(some(ids))")
    }
    for (kind, ids) in failed {
      await ledger.find("\(kind): \(ids.count) requests failed, undisturbed: \(some(ids))")
    }
  }

  private func some(_ ids: [String]) -> String { ids.sorted().prefix(5).joined(separator: ", ") }

  /// Of a request that was answered more than once.
  func secondReplies() async -> Int {
    await ledger.replies.values.count { $0.count > 1 }
  }

  // MARK: Versions and memory

  func checkVersions() async throws {
    let wrong =
      try await database.query(
        """
        SELECT count(*) AS n FROM (SELECT 1 FROM adapters GROUP BY user_id, task
          HAVING count(*) FILTER (WHERE state = 'active') > 1) AS w
        """
      ).first?.decode("n", as: Int.self) ?? 0
    if wrong > 0 { await ledger.find("\(wrong) streams with two active versions") }
  }

  func checkMemory() async {
    for growth in await workers.memoryGrowth() where growth > 256 << 20 {
      await ledger.find(
        "a worker's memory grew by \(growth >> 20) MiB in the second half of its life")
    }
  }

  func figure(_ query: PostgresQuery) async -> Int {
    (try? await database.query(query).first?.decode(at: 0, as: Int.self)) ?? -1
  }
}
