// What was sent, done and seen in a trial: what the worker is held against in the end.

import ArgumentParsing
import Foundation

actor ChaosLedger {
  struct Event: Sendable {
    let id: String
    /// The number of the event among its user's; the order in which they were sent.
    let number: Int
    let sentAt: Date
    /// It had to be sent again, so that it may stand behind later ones.
    var isResent = false
    var isAcknowledged = false
  }

  struct Request: Sendable {
    enum Kind: String, Sendable, CaseIterable {
      case label, retrieval, text, hasty, unknownTask, unknownTopic, forbiddenTopic, damaged
      /// Of crowds, see ``ChaosCrowds``.
      case hugeWeights, longHistory, longAnswer
    }

    let id: String
    let user: String
    let kind: Kind
    let sentAt: Date
    let deadline: Duration
    var isAcknowledged = false
  }

  struct Reply: Sendable {
    let status: String
    let code: String?
    let output: String?
    let at: Date
  }

  /// What an operator's erasure may have reached: all that was sent before `begin` for certain, nothing that was
  /// sent after `end`.
  struct Erasure: Sendable {
    let begin: Date
    let end: Date
    let isCertain: Bool
  }

  enum Area: String, Sendable {
    case database, broker, workers
    /// Others keep it busy.
    case machine
  }

  private(set) var events: [String: [Event]] = [:]
  /// Ids of events that no worker can take, and of those whose dead letter was seen.
  private(set) var poison: Set<String> = []
  private(set) var requests: [String: Request] = [:]
  private(set) var replies: [String: [Reply]] = [:]
  private(set) var letters: [String: Int] = [:]
  /// Dead letters of the topic of events that are about nothing of ``poison``.
  private(set) var strangeLetters: [String] = []
  private(set) var erasures: [String: [Erasure]] = [:]
  private(set) var disturbances: [(area: Area, from: Date, to: Date?)] = []
  private(set) var faults: [String: Int] = [:]
  private(set) var findings: [String] = []
  private(set) var commands = 0
  private var busyMark: Int?

  // MARK: Traffic

  func sending(_ event: Event, of user: String) { events[user, default: []].append(event) }

  func acknowledged(_ number: Int, of user: String, isResent: Bool) {
    guard let index = events[user]?.lastIndex(where: { $0.number == number }) else { return }
    events[user]?[index].isAcknowledged = true
    events[user]?[index].isResent = isResent
  }

  func sendingPoison(_ id: String) { poison.insert(id) }

  func sending(_ request: Request) { requests[request.id] = request }
  func acknowledged(request id: String) { requests[id]?.isAcknowledged = true }

  func add(_ reply: Reply, to id: String) { replies[id, default: []].append(reply) }
  func addLetter(_ id: String) { letters[id, default: 0] += 1 }
  func addStrangeLetter(_ text: String) { strangeLetters.append(text) }

  private func isAnswered(_ id: String) -> Bool { replies[id] != nil || letters[id] != nil }

  func areAnswered(_ ids: [String]) -> Bool { ids.allSatisfy(isAnswered) }

  /// Requests that are on the topic and have neither a reply nor a dead letter.
  var unanswered: [Request] {
    requests.values.filter { $0.isAcknowledged && !isAnswered($0.id) }
  }

  // MARK: What happened

  func begin(_ fault: ChaosPlan.Fault, _ areas: [Area]) -> [Int] {
    faults[fault.name, default: 0] += 1
    return areas.map { area in
      disturbances.append((area, Date(), nil))
      return disturbances.count - 1
    }
  }

  func end(_ marks: [Int]) {
    for mark in marks { disturbances[mark].to = Date() }
  }

  /// Where others keep the machine busy, a reply may be late for no reason of the worker's.
  func note(isMachineBusy: Bool) {
    switch (busyMark, isMachineBusy) {
    case (nil, true):
      disturbances.append((.machine, Date(), nil))
      busyMark = disturbances.count - 1
    case (let mark?, false):
      end([mark])
      busyMark = nil
    default: break
    }
  }

  /// Seconds in which the machine was busy with others.
  var busySeconds: Double {
    disturbances.filter { $0.area == .machine }.reduce(0) {
      $0 + ($1.to ?? .now).timeIntervalSince($1.from)
    }
  }

  var isDisturbed: Bool { disturbances.contains { $0.to == nil } }

  /// Whether anything of these areas was disturbed in a stretch of time.
  func wasDisturbed(_ areas: Set<Area>, from: Date, to: Date) -> Bool {
    disturbances.contains { areas.contains($0.area) && $0.from <= to && ($0.to ?? .now) >= from }
  }

  func add(_ erasure: Erasure, of user: String) { erasures[user, default: []].append(erasure) }
  func countCommand() { commands += 1 }

  func find(_ text: String) {
    let text = Spelling.harmless(text)
    findings.append(text)
    BenchDatabase.say("FOUND: \(text)")
  }
}
