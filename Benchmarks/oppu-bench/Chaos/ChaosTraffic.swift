// Sends in a trial as applications do, steadily and in crowds, and keeps what was sent.

import Foundation
import JSON
import KafkaClient
import Personalization
import RandomNumbers
import Worker

actor ChaosTraffic {
  private let configuration: KafkaConfiguration
  private let messages: ChaosMessages
  private let ledger: ChaosLedger
  private let users: [String]
  private var random: SplitMix64
  private var numbers: [String: Int] = [:]
  private var requestCount = 0
  private var producer: KafkaProducer?
  private var isPaused = false
  private var isSending = false
  private var answered: [JSONValue] = []

  init(
    _ topics: WorkerConfiguration.Kafka, users: [String], seed: UInt64, ledger: ChaosLedger
  ) {
    messages = ChaosMessages(topics: topics)
    self.users = users
    self.ledger = ledger
    random = SplitMix64(seed: seed)
    // Not idempotent: after it stood still, the development broker acknowledges repeats of messages that it does not
    // have. One request at a time keeps the order, and a message that is there twice has one id.
    configuration = KafkaConfiguration(
      bootstrapServers: topics.bootstrapServers,
      properties: [
        "delivery.timeout.ms": "600000", "enable.idempotence": "false",
        "max.in.flight.requests.per.connection": "1",
      ])
  }

  // MARK: Pausing

  /// Returns once nothing is being sent, and nothing will be until `resume`.
  func pause() async throws {
    isPaused = true
    while isSending { try await Task.sleep(for: .milliseconds(20)) }
  }

  /// - Parameter isAnew: with a client that knows nothing of the topics as they were.
  func resume(isAnew: Bool = false) async {
    if isAnew {
      await producer?.close()
      producer = nil
    }
    isPaused = false
  }

  func close() async { await producer?.close() }

  // MARK: Sending

  /// Sends until it is cancelled.
  func run(eventsPerSecond: Int, requestsPerSecond: Int) async throws {
    let pause = Duration.milliseconds(200)
    while !Task.isCancelled {
      if !isPaused {
        isSending = true
        await sendEvents(share(of: eventsPerSecond))
        await sendRequests(share(of: requestsPerSecond))
        isSending = false
      }
      try await Task.sleep(for: pause)
    }
  }

  /// How many of a second's messages fall into 200 ms.
  private func share(of rate: Int) -> Int {
    let exact = Double(rate) / 5
    return Int(exact)
      + (Double.random(in: 0..<1, using: &random) < exact - exact.rounded(.down) ? 1 : 0)
  }

  private func client() throws -> KafkaProducer {
    if let producer { return producer }
    let made = try KafkaProducer(configuration: configuration, logger: BenchDatabase.logger)
    producer = made
    return made
  }

  /// Sends messages in their order until the broker has each; returns those that had to be sent again.
  private func deliver(_ messages: [OutgoingMessage]) async -> Set<Int> {
    var left = Array(messages.indices)
    var again: Set<Int> = []
    while !left.isEmpty, !Task.isCancelled {
      guard let client = try? client() else { break }
      let failures = await client.send(left.map { messages[$0] })
      left = failures.keys.sorted().map { left[$0] }
      again.formUnion(left)
      if !left.isEmpty { try? await Task.sleep(for: .milliseconds(500)) }
    }
    return again
  }

  private func sendEvents(_ count: Int) async {
    var outgoing: [OutgoingMessage] = []
    var sent: [(user: String, number: Int)?] = []
    for _ in 0..<count {
      let now = Date()
      if Int.random(in: 0..<100, using: &random) == 0 {
        let id = "poison-\(UInt32.random(in: 0...UInt32.max, using: &random))"
        let kind = Int.random(in: 0..<5, using: &random)
        outgoing.append(messages.poison(id, kind: kind, key: users[0], at: now))
        sent.append(nil)
        await ledger.sendingPoison(id)
        continue
      }
      guard let user = users.randomElement(using: &random) else { continue }
      let number = numbers[user, default: 0]
      numbers[user] = number + 1
      outgoing.append(
        messages.event(number, of: user, at: now, feedbackOn: feedback(number, of: user)))
      sent.append((user, number))
      await ledger.sending(
        ChaosLedger.Event(
          id: ChaosMessages.eventID(user, number), number: number, sentAt: now), of: user)
    }
    let again = await deliver(outgoing)
    guard !Task.isCancelled else { return }
    for (index, event) in sent.enumerated() {
      guard let event else { continue }
      await ledger.acknowledged(event.number, of: event.user, isResent: again.contains(index))
    }
  }

  /// Now and then an answer that the user got.
  private func feedback(_ number: Int, of user: String) -> JSONValue? {
    guard let reply = answered.randomElement(using: &random), number % 10 == 0,
      reply["user_id"]?.string == user
    else { return nil }
    return reply
  }

  // MARK: Requests

  private func sendRequests(_ count: Int) async {
    for _ in 0..<count {
      guard let user = users.randomElement(using: &random) else { return }
      let roll = Int.random(in: 0..<20, using: &random)
      let kind: ChaosLedger.Request.Kind =
        switch roll {
        case 0: .unknownTask
        case 1: .forbiddenTopic
        case 2: .damaged
        case 3: .hasty
        case 4...6: .text
        case 7...12: .retrieval
        default: .label
        }
      let deadline: Duration =
        kind == .hasty
        ? .milliseconds(200) : .seconds([10, 20, 60].randomElement(using: &random) ?? 60)
      await send([(kind, user)], deadline: deadline, key: nil)
    }
  }

  /// Sends requests together and to one partition, so that one batch may hold them all; returns their ids.
  func ask(
    _ requests: [(kind: ChaosLedger.Request.Kind, user: String)], deadline: Duration
  ) async -> [String] {
    await send(requests, deadline: deadline, key: "crowd")
  }

  @discardableResult
  private func send(
    _ requests: [(kind: ChaosLedger.Request.Kind, user: String)], deadline: Duration, key: String?
  ) async -> [String] {
    var outgoing: [OutgoingMessage] = []
    var ids: [String] = []
    for (kind, user) in requests {
      requestCount += 1
      let request = ChaosLedger.Request(
        id: "r\(requestCount)", user: user, kind: kind, sentAt: Date(), deadline: deadline)
      outgoing.append(messages.request(request, number: requestCount, key: key))
      ids.append(request.id)
      await ledger.sending(request)
    }
    _ = await deliver(outgoing)
    if !Task.isCancelled { for id in ids { await ledger.acknowledged(request: id) } }
    return ids
  }

  /// Answers that feedback may be about.
  func note(_ reply: JSONValue) {
    answered.append(reply)
    if answered.count > 50 { answered.removeFirst() }
  }
}
