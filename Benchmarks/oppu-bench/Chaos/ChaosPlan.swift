// What a trial does to the world: drawn from its seed alone, so that a trial can be had again.

import RandomNumbers

struct ChaosPlan: Sendable {
  /// What goes wrong for a while. The rest is left in peace meanwhile, so that a late reply has one cause.
  enum Phase: String, CaseIterable, Sendable {
    case database, broker, workers, topics, requests, everything, calm
  }

  enum Fault: Sendable, Equatable {
    case databaseKilled(down: Duration)
    case databaseHeld(Duration)
    case databaseSlow(Duration)
    case databaseCut
    case databaseRefuses(Duration)
    /// Every backend of the workers is terminated.
    case sessionsEnded
    case databaseReadOnly(Duration)
    case statementTimeout(Duration)
    /// Nobody else gets at the tables of events and answers, for longer than a member of a group may be silent.
    case databaseLocked(Duration)
    /// Stopped in order.
    case brokerStopped(Int, down: Duration)
    /// Only of Apache Kafka: the development broker loses acknowledged messages when it is killed, which is not the
    /// worker's to mend.
    case brokerKilled(Int, down: Duration)
    case brokerFrozen(Int, Duration)
    case brokerHeld(Int, Duration)
    case brokerSlow(Int, Duration)
    case brokerCut(Int)
    case workerKilled(Int, down: Duration)
    case workerStopped(Int, down: Duration)
    case workerFrozen(Int, Duration)
    /// A server hangs or is gone, and meanwhile a worker is told to stop.
    case workerStoppedAmid(Int, Trouble)
    /// The topic of events is deleted and made anew once all of it is read; with no worker running meanwhile, or
    /// under their eyes.
    case eventsMadeAnew(withWorkersDown: Bool)
    /// The same of the topic of requests.
    case requestsMadeAnew(withWorkersDown: Bool)
    /// The oldest messages are deleted, all of which were read.
    case eventsTruncated
    /// Everything is read again, by workers who have nothing to do.
    case offsetsReset
    /// See ``ChaosCrowds``.
    case hugeWeights, longHistory, unknownTopics, longAnswers

    enum Trouble: CaseIterable, Sendable { case databaseHeld, brokerHeld, brokerGone }

    /// The first word of its case.
    var name: String {
      let text = "\(self)"
      return String(text.prefix { $0 != "(" })
    }
  }

  /// What a trial is narrowed down to: a phase, or one kind of fault in it.
  struct Scope: Sendable {
    let phase: Phase
    var fault: String?

    /// - Parameter name: a phase's or a fault's; nil where there is none of that name.
    init?(_ name: String) {
      if let phase = Phase(rawValue: name) {
        self.phase = phase
        return
      }
      var plan = ChaosPlan(seed: 0, workers: 1, brokers: 1, mayBeKilled: true)
      guard
        let phase = Phase.allCases.first(where: { phase in
          plan.faults(of: phase).contains { $0.name == name }
        })
      else { return nil }
      self.phase = phase
      fault = name
    }
  }

  /// What an operator types meanwhile.
  enum Act: Sendable, Equatable {
    case erase(user: Int)
    case look(Int)
    case pauseQueue(Duration)
  }

  private var random: SplitMix64
  private var operations: SplitMix64
  private let workers: Int
  private let brokers: Int
  private let mayBeKilled: Bool
  /// What is left of each phase's faults: every kind has its turn before one comes again.
  private var orders: [Phase: [Int]] = [:]

  private let only: Scope?

  /// - Parameters:
  ///   - mayBeKilled: the brokers, as by a crash.
  ///   - only: nil: everything.
  init(seed: UInt64, workers: Int, brokers: Int, mayBeKilled: Bool, only: Scope? = nil) {
    self.only = only
    self.brokers = brokers
    self.mayBeKilled = mayBeKilled
    random = SplitMix64(seed: seed)
    operations = SplitMix64(seed: seed ^ 0x6F70_7075)
    self.workers = workers
  }

  private mutating func seconds(_ range: ClosedRange<Double>) -> Duration {
    .milliseconds(Int(Double.random(in: range, using: &random) * 1_000))
  }

  mutating func nextPhase() -> (phase: Phase, length: Duration) {
    let drawn = Phase.allCases.randomElement(using: &random) ?? .calm
    let phase = only?.phase ?? drawn
    return (phase, seconds(phase == .calm ? 10...30 : 30...75))
  }

  /// The pause before the next fault of a phase.
  mutating func rest() -> Duration { seconds(1...10) }

  /// Nil in a calm phase.
  mutating func nextFault(in phase: Phase) -> Fault? {
    if phase == .everything {
      let others: [Phase] = [.database, .broker, .workers, .topics, .requests]
      return nextFault(in: others.randomElement(using: &random) ?? .workers)
    }
    var faults = faults(of: phase)
    if let name = only?.fault { faults.removeAll { $0.name != name } }
    guard !faults.isEmpty else { return nil }
    var order = orders[phase] ?? []
    if order.isEmpty { order = faults.indices.shuffled(using: &random) }
    let number = order.removeLast()
    orders[phase] = order
    return faults[number]
  }

  /// One of each kind, of random lengths.
  private mutating func faults(of phase: Phase) -> [Fault] {
    let worker = Int.random(in: 0..<workers, using: &random)
    let broker = Int.random(in: 0..<brokers, using: &random)
    switch phase {
    case .calm, .everything: return []
    case .database:
      return [
        .databaseKilled(down: seconds(0...8)), .databaseHeld(seconds(5...40)),
        .databaseSlow(seconds(5...20)), .databaseCut, .databaseRefuses(seconds(1...10)),
        .sessionsEnded, .databaseReadOnly(seconds(2...10)), .statementTimeout(seconds(5...15)),
        .databaseLocked(seconds(35...45)),
      ]
    case .broker:
      return [
        .brokerStopped(broker, down: seconds(0...15)), .brokerFrozen(broker, seconds(1...30)),
        .brokerHeld(broker, seconds(1...30)), .brokerSlow(broker, seconds(5...20)),
        .brokerCut(broker),
      ] + (mayBeKilled ? [.brokerKilled(broker, down: seconds(0...15))] : [])
    case .workers:
      return [
        .workerKilled(worker, down: seconds(0...10)), .workerStopped(worker, down: seconds(0...5)),
        .workerFrozen(worker, seconds(1...25)),
      ] + Fault.Trouble.allCases.map { .workerStoppedAmid(worker, $0) }
    case .topics:
      return [
        .eventsMadeAnew(withWorkersDown: true), .eventsMadeAnew(withWorkersDown: false),
        .requestsMadeAnew(withWorkersDown: true), .requestsMadeAnew(withWorkersDown: false),
        .eventsTruncated, .offsetsReset,
      ]
    case .requests: return [.hugeWeights, .longHistory, .unknownTopics, .longAnswers]
    }
  }

  /// What the operator does, and how long after the one before.
  mutating func nextAct(users: Int) -> (act: Act, after: Duration) {
    let pause = Duration.milliseconds(Int.random(in: 2_000...15_000, using: &operations))
    let number = Int.random(in: 0..<1_000, using: &operations)
    switch number % 6 {
    case 0: return (.erase(user: number % users), pause)
    case 1: return (.pauseQueue(.milliseconds(number * 10)), pause)
    default: return (.look(number), pause)
    }
  }
}
