// Everything that was seen during a run, and the claims that it has to bear out.

import Foundation
import Personalization

struct TourFindings: Sendable {
  var scenario: Scenario
  var catalogue: TaskCatalogue
  var progress: WorkerProgress
  var stored: [String: (rows: Int, ids: Int)]
  var deadLetters: [TourDeadLetter]
  var shifts: [FoundShift]
  var adapters: [AdapterVersion]
  var before: [TourAnswer?]
  var after: [TourAnswer?]
  var elapsed: Duration
  var peakMemory: Int?

  /// Events of the file that repeat an earlier event's id: they may be stored only once.
  var repeated: [String: Int] {
    var seen: Set<String> = []
    return scenario.events.reduce(into: [:]) { counts, event in
      guard let id = event.eventID else { return }
      if !seen.insert(id).inserted { counts[event.stream.task, default: 0] += 1 }
    }
  }

  /// The first alarm at or after a planted shift.
  func found(_ planted: PlantedShift) -> FoundShift? {
    shifts.first { $0.stream == planted.stream && $0.ordinal >= planted.ordinal }
  }

  /// Alarms of users who did not change, and alarms before a change.
  var falseAlarms: [FoundShift] {
    shifts.filter { found in
      !scenario.shifts.contains {
        $0.stream == found.stream && found.ordinal >= $0.ordinal
      }
    }
  }

  func activeVersion(of stream: StreamName) -> Int? {
    adapters.first { $0.stream == stream && $0.state == "active" }?.version
  }

  /// Indices of the questions that the worker answered differently in the second round.
  func changedAnswers(where include: (TourQuestion) -> Bool = { _ in true }) -> [Int] {
    scenario.questions.indices.filter { index in
      guard include(scenario.questions[index]), let old = before[index], let new = after[index]
      else { return false }
      return old.isOK && new.isOK && old.output != new.output
    }
  }

  /// How many answers of a round are what the user would have said, of those where that is known.
  func matches(_ answers: [TourAnswer?], _ expected: (TourQuestion) -> String?) -> (
    right: Int, of: Int
  ) {
    var result = (right: 0, of: 0)
    for (answer, question) in zip(answers, scenario.questions) {
      guard let wanted = expected(question) else { continue }
      result.of += 1
      if let answer, answer.isOK, Self.same(answer.output, wanted) { result.right += 1 }
    }
    return result
  }

  static func same(_ first: String, _ second: String) -> Bool {
    first.trimmingCharacters(in: .whitespacesAndNewlines)
      == second.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// Something that the demo says it shows, and whether it was seen.
struct Claim: Sendable {
  var name: String
  var isMet: Bool
  var detail: String
}

extension TourFindings {
  var claims: [Claim] {
    [storedOnce, nothingLeft, answered, newestAdapters]
      + (scenario.hasTruth
        ? [plantedFound, fewFalseAlarms, adaptersFollow, answersChanged] : [adapterOfEveryKind])
  }

  private var storedOnce: Claim {
    let repeats = repeated.values.reduce(0, +)
    let wanted = scenario.events.count - repeats
    let rows = stored.values.reduce(0) { $0 + $1.rows }
    let ids = stored.values.reduce(0) { $0 + $1.ids }
    let met =
      rows == wanted && ids == wanted && progress.deadLetters == 0
      && progress.duplicates == repeats
    return Claim(
      name: "every event is stored exactly once", isMet: met,
      detail: "\(scenario.events.count) played, \(rows) stored, \(ids) different, "
        + "\(progress.duplicates) repeated, \(progress.deadLetters) dead letters")
  }

  private var nothingLeft: Claim {
    let open = progress.queued + progress.running
    return Claim(
      name: "every training ran to its end",
      isMet: open == 0 && progress.deadJobs == 0 && progress.finished > 0,
      detail: "\(progress.finished) done, \(progress.deadJobs) failed, \(open) left")
  }

  private var answered: Claim {
    let all = before + after
    let good = all.filter { $0?.isOK == true }.count
    return Claim(
      name: "every request was answered", isMet: good == all.count && !all.isEmpty,
      detail: "\(good) of \(all.count)")
  }

  private var newestAdapters: Claim {
    let current = zip(scenario.questions, after).filter { question, answer in
      answer?.adapterVersion == activeVersion(of: question.stream)
    }
    return Claim(
      name: "answers come from each user's active adapter",
      isMet: current.count == scenario.questions.count,
      detail: "\(current.count) of \(scenario.questions.count) in the second round")
  }

  private var plantedFound: Claim {
    let missed = scenario.shifts.filter { found($0) == nil }
    return Claim(
      name: "every planted shift was found", isMet: missed.isEmpty && !scenario.shifts.isEmpty,
      detail: missed.isEmpty
        ? "\(scenario.shifts.count) of \(scenario.shifts.count)"
        : "missed: " + missed.map(\.stream.description).joined(separator: ", "))
  }

  private var fewFalseAlarms: Claim {
    let alarms = falseAlarms
    return Claim(
      name: "at most one false alarm", isMet: alarms.count <= 1,
      detail: alarms.isEmpty
        ? "none" : alarms.map { "\($0.stream) at event \($0.ordinal)" }.joined(separator: ", "))
  }

  private var adaptersFollow: Claim {
    let without = scenario.shifts.filter { planted in
      !adapters.contains {
        $0.stream == planted.stream && $0.wasPromoted && $0.trainedThrough >= planted.ordinal
      }
    }
    return Claim(
      name: "every user who shifted has a new adapter that passed its gate",
      isMet: without.isEmpty && !scenario.shifts.isEmpty,
      detail: without.isEmpty
        ? "\(scenario.shifts.count) of \(scenario.shifts.count)"
        : "not: " + without.map(\.stream.description).joined(separator: ", "))
  }

  private var answersChanged: Claim {
    let shifted = Set(scenario.shifts.map(\.stream))
    let changed = changedAnswers { shifted.contains($0.stream) }
    let asked = scenario.questions.filter { shifted.contains($0.stream) }.count
    return Claim(
      name: "the shift changed answers of users who shifted", isMet: !changed.isEmpty,
      detail: "\(changed.count) of \(asked)")
  }

  private var adapterOfEveryKind: Claim {
    func kinds(_ streams: some Sequence<StreamName>) -> Set<String> {
      Set(streams.compactMap { catalogue[$0.task]?.kind.rawValue })
    }
    let present = kinds(scenario.streams)
    let promoted = kinds(adapters.filter(\.wasPromoted).map(\.stream))
    let missing = present.subtracting(promoted).sorted()
    return Claim(
      name: "an adapter passed its gate for every kind of task", isMet: missing.isEmpty,
      detail: missing.isEmpty
        ? present.sorted().joined(separator: ", ")
        : "none for " + missing.joined(separator: ", "))
  }
}
