// Waits until the worker has dealt with everything that was played.

import Foundation

/// The worker stopped getting on.
struct StalledError: Error, CustomStringConvertible, LocalizedError {
  var minutes: Int
  var state: String
  var log: String
  var description: String {
    "nothing moved for \(minutes) minutes (\(state)); the worker's log is \(log)"
  }
  var errorDescription: String? { description }
}

struct Settling: Sendable {
  let observer: Observer
  let console: Console
  let workerLog: String

  private static let patienceMinutes = 10
  /// How long a shift may wait for events that will not come before the demo goes on without it.
  private static let shiftPatience: Duration = .seconds(30)

  /// Returns when all `played` events are stored, the scheduler has seen each of them, and no
  /// training is queued or running.
  ///
  /// - Parameter begin: how the worker stood before the events were played.
  /// - Throws: `StalledError`, `PostgresError`, `CancellationError`.
  func wait(played: Int, since begin: WorkerProgress) async throws {
    let start = ContinuousClock.now
    var last: WorkerProgress?
    var lastChange = start
    while true {
      let now = try await observer.progress()
      // The clock of a training ticks by itself and is no sign of life.
      var comparable = now
      comparable.current?.seconds = 0
      if comparable != last {
        last = comparable
        lastChange = .now
      }
      let quiet = ContinuousClock.now - lastChange
      let isIdle = now.taken >= played && now.behind == 0 && now.queued + now.running == 0
      if isIdle, now.pendingShifts == 0 || quiet > Self.shiftPatience { break }
      if quiet > .seconds(60 * Self.patienceMinutes) {
        console.endProgress()
        throw StalledError(
          minutes: Self.patienceMinutes, state: Self.words(now, played: played), log: workerLog)
      }
      show(now, played: played, since: begin)
      try await Task.sleep(for: .milliseconds(250))
    }
    let trained = (last?.finished ?? 0) - begin.finished
    console.say(
      "  settled after \((ContinuousClock.now - start).inWords): \(last?.stored ?? 0) events stored,"
        + " \(trained) trainings, \(last?.activeAdapters ?? 0) adapters active")
  }

  private func show(_ now: WorkerProgress, played: Int, since begin: WorkerProgress) {
    let open = now.queued + now.running
    let done = now.finished - begin.finished
    var text = Self.words(now, played: played)
    var fraction = Double(now.taken - begin.taken) / Double(max(1, played - begin.taken))
    if open + done > 0 {
      fraction = (Double(done) + (now.current?.fraction ?? 0)) / Double(open + done)
      if let left = Self.secondsLeft(now) {
        text += ", about \(Duration.seconds(left).inWords) for the trainings known so far"
      }
    }
    console.progress(text, fraction: fraction)
  }

  private static func words(_ now: WorkerProgress, played: Int) -> String {
    var parts = ["\(now.stored)/\(played) events stored"]
    if now.behind > 0 { parts.append("\(now.behind) streams to look at") }
    if let current = now.current {
      let steps = current.steps > 0 ? "step \(current.step)/\(current.steps), " : ""
      parts.append("training \(current.stream) (\(steps)\(current.seconds) s)")
    }
    if now.queued > 0 { parts.append("\(now.queued) trainings queued") }
    if now.pendingShifts > 0 { parts.append("\(now.pendingShifts) shifts wait for events") }
    parts.append("\(now.activeAdapters) adapters")
    return parts.joined(separator: ", ")
  }

  /// From the mean of the trainings done so far; nil before there is one.
  private static func secondsLeft(_ now: WorkerProgress) -> Int? {
    guard let mean = now.secondsPerJob, now.queued + now.running > 0 else { return nil }
    let elapsed = now.current.map { Double($0.seconds) } ?? 0
    let current = now.running > 0 ? max(1, mean - elapsed) : 0
    return Int((Double(now.queued) * mean + current).rounded(.up))
  }
}
