// What applications send in a trial: events of users who change their minds, requests of many kinds, feedback.

import Foundation
import KafkaClient
import LinearAlgebra
import Personalization
import Worker

actor ChaosTraffic {
  static let replyHeader = "kafka_correlationId"
  /// Allowed by its name, and made by nobody but a broker that makes what it is asked for.
  static let unknownTopic = "nobodys-replies"

  private let configuration: KafkaConfiguration
  private let topics: WorkerConfiguration.Kafka
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
    self.topics = topics
    self.users = users
    self.ledger = ledger
    random = SplitMix64(seed: seed)
    configuration = KafkaConfiguration(
      bootstrapServers: topics.bootstrapServers,
      properties: ["delivery.timeout.ms": "600000", "message.timeout.ms": "600000"])
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
    var messages: [OutgoingMessage] = []
    var sent: [(user: String, number: Int)?] = []
    for _ in 0..<count {
      let now = Date()
      if Int.random(in: 0..<100, using: &random) == 0 {
        let id = "poison-\(UInt32.random(in: 0...UInt32.max, using: &random))"
        messages.append(message(topics.behaviorTopic, key: users[0], poison(id), at: now))
        sent.append(nil)
        await ledger.sendingPoison(id)
        continue
      }
      guard let user = users.randomElement(using: &random) else { continue }
      let number = numbers[user, default: 0]
      numbers[user] = number + 1
      let value = event(number, of: user, at: now)
      messages.append(message(topics.behaviorTopic, key: user, value.canonical, at: now))
      sent.append((user, number))
      await ledger.sending(
        ChaosLedger.Event(id: Self.eventID(user, number), number: number, sentAt: now), of: user)
    }
    let again = await deliver(messages)
    guard !Task.isCancelled else { return }
    for (index, event) in sent.enumerated() {
      guard let event else { continue }
      await ledger.acknowledged(event.number, of: event.user, isResent: again.contains(index))
    }
  }

  private func message(
    _ topic: String, key: String, _ value: String, at time: Date, headers: [KafkaHeader] = []
  ) -> OutgoingMessage {
    OutgoingMessage(
      topic: topic, key: Data(key.utf8), value: Data(value.utf8), headers: headers, timestamp: time)
  }

  // MARK: Events

  private static let films = [
    "Paper Harbour", "Winter Bridge", "Distant Piano", "Silent Orchard", "Broken Compass",
    "Golden Staircase", "Last Ferry", "Hidden Lantern",
  ]

  static func eventID(_ user: String, _ number: Int) -> String { "\(user)#\(number)" }

  /// By mood, then by era, changing every forty events; now and then feedback on an answer.
  private func event(_ number: Int, of user: String, at time: Date) -> JSONValue {
    let film = Self.films[number % Self.films.count]
    let year = 1950 + (number * 7) % 60
    let mood = ["funny", "sad", "tense"][number % Self.films.count % 3]
    let era = year < 1965 ? "fifties" : year < 1985 ? "seventies" : "nineties"
    var fields: [String: JSONValue] = [
      "event_id": .string(Self.eventID(user, number)), "user_id": .string(user),
      "task": "film_tag", "occurred_at": .string(time.formatted(.iso8601)),
      "input": ["film": .string("The \(film) (\(year)): \(mood) \u{1B}[31m\(number)")],
      "output": .string(number / 40 % 2 == 0 ? mood : era),
    ]
    if let index = answered.indices.randomElement(using: &random), number % 10 == 0,
      answered[index]["user_id"]?.string == user
    {
      // Complete in itself, for the answer may not be on record any more.
      fields["kind"] = "feedback"
      fields["request_id"] = answered[index]["request_id"]
      fields["feedback"] = "edited"
    }
    return .object(fields)
  }

  private func poison(_ id: String) -> String {
    switch Int.random(in: 0..<5, using: &random) {
    case 0: "{\"event_id\": \"\(id)\""
    case 1: "{\"event_id\": \"\(id)\", \"user_id\": \"x\", \"task\": \"nobody's\", \"input\": {}}"
    case 2:
      #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": "a"}, "z": 1e999}"#
    case 3:
      #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": "a\u0000"}}"#
    default:
      #"{"event_id": "\#(id)", "user_id": "x", "task": "film_tag", "input": {"film": 7, "film": 8}}"#
    }
  }

  // MARK: Requests

  private func sendRequests(_ count: Int) async {
    for _ in 0..<count {
      requestCount += 1
      guard let user = users.randomElement(using: &random) else { return }
      let roll = Int.random(in: 0..<20, using: &random)
      let kind: ChaosLedger.Request.Kind =
        switch roll {
        case 0: .unknownTask
        case 1: .unknownTopic
        case 2: .forbiddenTopic
        case 3: .damaged
        case 4: .hasty
        case 5...7: .text
        case 8...12: .retrieval
        default: .label
        }
      let deadline: Duration =
        kind == .hasty
        ? .milliseconds(200) : .seconds([10, 20, 60].randomElement(using: &random) ?? 60)
      let request = ChaosLedger.Request(
        id: "r\(requestCount)", user: user, kind: kind, sentAt: Date(), deadline: deadline)
      await ledger.sending(request)
      _ = await deliver([outgoing(request)])
      if !Task.isCancelled { await ledger.acknowledged(request: request.id) }
    }
  }

  private func outgoing(_ request: ChaosLedger.Request) -> OutgoingMessage {
    var options: [String: JSONValue] = [
      "deadline_ms": .number(Double(Int(request.deadline / .milliseconds(1))))
    ]
    if request.kind == .retrieval { options["retrieve"] = 4 }
    if request.kind == .text { options["max_tokens"] = .number(Double(1 + requestCount % 24)) }
    let film = Self.films[requestCount % Self.films.count]
    let isText = request.kind == .text
    let fields: [String: JSONValue] = [
      "request_id": .string(request.id), "user_id": .string(request.user),
      "task": request.kind == .unknownTask ? "nobody's" : isText ? "email_subject" : "film_tag",
      "input": isText
        ? ["message": .string("The \(film) sails at noon on Tuesday, bring your papers.")]
        : ["film": .string("The \(film) (1994): two thieves lose a suitcase")],
      "options": .object(options),
    ]
    var headers = [KafkaHeader(key: Self.replyHeader, value: request.id)]
    switch request.kind {
    case .unknownTopic:
      headers.append(KafkaHeader(key: "kafka_replyTopic", value: Self.unknownTopic))
    case .forbiddenTopic:
      headers.append(KafkaHeader(key: "kafka_replyTopic", value: topics.behaviorTopic))
    default: break
    }
    let value = JSONValue.object(fields).canonical
    return message(
      topics.requestTopic, key: request.user,
      request.kind == .damaged ? String(value.dropLast(2)) : value, at: request.sentAt,
      headers: headers)
  }

  /// Answers that feedback may be about.
  func note(_ reply: JSONValue) {
    answered.append(reply)
    if answered.count > 50 { answered.removeFirst() }
  }
}
