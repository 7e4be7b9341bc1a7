// Sends events to the behaviour topic, as an application would.

import Foundation
import KafkaClient
import Synchronization

struct Player: Sendable {
  let producer: KafkaProducer
  let observer: Observer
  let console: Console

  /// Sends the events: users side by side, each user's own in order. Every event is acknowledged by
  /// the broker when this returns.
  ///
  /// - Throws: `KafkaError`, `PostgresError`, `CancellationError`.
  func play(_ events: [PlayedEvent], title: String) async throws {
    let users = Dictionary(grouping: events, by: \.stream.user)
    let streams = Set(events.map(\.stream)).count
    let sent = Counter()
    let begin = ContinuousClock.now
    do {
      // Cancelled and waited for where this scope ends.
      async let _ = show(sent, of: events.count, streams, title, begin)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (user, own) in users {
          group.addTask {
            for event in own {
              try Task.checkCancellation()
              try await producer.send(
                topic: Topics.behavior, key: Data(user.utf8), value: event.line,
                headers: [KafkaHeader(key: "content-type", value: Data("application/json".utf8))])
              sent.increment()
            }
          }
        }
        try await group.waitForAll()
      }
    }
    let seconds = max(0.001, (ContinuousClock.now - begin) / .seconds(1))
    let rate = Int((Double(events.count) / seconds).rounded())
    console.say("  \(events.count) events of \(streams) streams sent, \(rate) events/s")
  }

  private func show(
    _ sent: Counter, of total: Int, _ streams: Int, _ title: String,
    _ begin: ContinuousClock.Instant
  ) async throws {
    while !Task.isCancelled {
      let count = sent.value
      let rate = Int(Double(count) / max(0.001, (ContinuousClock.now - begin) / .seconds(1)))
      let adapters = try await observer.progress().activeAdapters
      if Task.isCancelled { return }
      console.progress(
        "\(title): \(count)/\(total) events, \(rate)/s, \(streams) streams, \(adapters) adapters",
        fraction: Double(count) / Double(total))
      try await Task.sleep(for: .milliseconds(100))
    }
  }
}

/// How many events are sent, counted by all users' tasks.
private final class Counter: Sendable {
  private let count = Atomic(0)
  var value: Int { count.load(ordering: .relaxed) }
  func increment() { count.add(1, ordering: .relaxed) }
}

/// The worker's default topics.
enum Topics {
  static let behavior = "user-behavior"
  static let deadLetters = "user-behavior-dlt"
  static let requests = "personalization-requests"
  static let replies = "personalization-replies"
}
