// `oppu-bench shift`: the goals of shift detection, ours and River's in the same run.

import ArgumentParsing
import Foundation
import ShiftBaselines
import ShiftDetection
import TextTables

struct Shift: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Shift detection: speed, state, false alarms, changes found; beside River's detectors.",
    discussion: """
      False alarms are counted on quiet streams of every kind, in users of 200 to 3,000 events. \
      Changes are sought in 100 + 100 values. River's detectors are brought to the same ARL0 first \
      (Benchmarks/peers/river_detectors.py, some minutes); without River ours alone is measured.
      """)

  @Option(help: "Events between false alarms of a user who does not change.") var arl0 = 10_000.0
  @Option(help: "Quiet events of each kind.") var events = 10_000_000
  @Option(help: "Streams with a change, of each kind.") var trials = 5_000
  @Option(help: "The Python with River (pip install river); none: ours alone.") var python: String?
  @Option(help: "This project's folder.") var project: String = "."
  @Option(help: "Also writes the figures to this file, as JSON.") var json: String?
  @Option var seed: UInt64 = 2_026

  func run() throws {
    let river = try python.flatMap(riverFigures)
    var report = ShiftReport(versions: river?.versions ?? [:], arl0: arl0, seed: seed)
    say("updates per second and state")
    speed(&report, river)
    state(&report)
    say("false alarms in \(events) events of each of \(QuietStream.allCases.count) kinds")
    falseAlarms(&report)
    say("changes")
    detection(&report, river)
    print(report.table())
    if let json { try report.json().write(to: URL(fileURLWithPath: json), options: .atomic) }
  }

  // MARK: Speed and state

  private func speed(_ report: inout ShiftReport, _ river: RiverFigures?) {
    var values = SeededValues(seed: seed)
    let numbers = (0..<1_000_000).map { _ in values.nextNormal() }
    /// Values per second of one core; users of 200 values each, as the peer's; best of three.
    func rate(_ run: (ArraySlice<Double>) -> Int) -> Double {
      var best = 0.0
      for _ in 0..<3 {
        var alarms = 0
        let began = Self.threadSeconds
        for first in stride(from: 0, to: numbers.count, by: 200) {
          alarms += run(numbers[first..<(first + 200)])
        }
        best = max(best, Double(numbers.count) / (Self.threadSeconds - began))
        // What is computed must be used.
        if alarms < 0 { say("impossible") }
      }
      return best
    }
    func peer(_ name: String) -> Double? {
      river?.rows.first { $0.detector == name && $0.stream == "mean + 1 sigma" }?.updatesPerS
    }
    report.addGoal(
      "updates: labels, two",
      rate { part in
        var detector = LabelDetector()
        return part.filter { detector.update(cell: $0 < -0.84 ? 1 : 0)?.statistic ?? 0 > 20 }.count
      }, goal: 1e6, unit: "updates/s")
    report.addGoal(
      "updates: labels, fifteen",
      rate { part in
        var detector = LabelDetector()
        return part.filter {
          detector.update(cell: abs(Int($0 * 1e6)) % 15)?.statistic ?? 0 > 20
        }.count
      }, goal: 1e6, unit: "updates/s")
    report.addGoal(
      "updates: numbers",
      rate { part in
        var detector = NumberDetector()
        return part.filter { detector.update($0)?.statistic ?? 0 > 20 }.count
      }, goal: 1e6, unit: "updates/s")
    report.add(
      "updates: ADWIN at every value",
      rate { part in
        var detector = ADWIN(clock: 1)
        return part.filter { detector.update($0) }.count
      }, peer("ADWIN"), goal: 1, unit: "updates/s")
    report.add(
      "updates: Page-Hinkley",
      rate { part in
        var detector = PageHinkley()
        return part.filter { detector.update($0) }.count
      }, peer("PageHinkley"), goal: 1, unit: "updates/s")
    report.add(
      "updates: KSWIN",
      rate { part in
        var detector = KSWIN()
        return part.filter { detector.update($0) }.count
      }, peer("KSWIN"), goal: 1, unit: "updates/s")
  }

  /// Whole monitors, all signals on.
  private func state(_ report: inout ShiftReport) {
    for kind in ["labels", "ratings", "texts"] {
      var values = SeededValues(seed: seed)
      let observations = (0..<20_000).map { _ in values.observation(kind) }
      var largest = 0
      let began = Self.threadSeconds
      for first in stride(from: 0, to: observations.count, by: 400) {
        var monitor = ShiftMonitor(configuration: .init(arl0: arl0))
        for observation in observations[first..<(first + 400)] { _ = monitor.observe(observation) }
      }
      let seconds = Self.threadSeconds - began
      var monitor = ShiftMonitor(configuration: .init(arl0: 1e9))
      for observation in observations.prefix(4_000) {
        _ = monitor.observe(observation)
        largest = max(largest, monitor.bytes.count)
      }
      report.addGoal(
        "whole monitor, \(kind)", Double(observations.count) / seconds, goal: 20_000,
        unit: "events/s")
      report.addLimit(
        "largest state of a user, \(kind)", Double(largest), limit: 1_024, unit: "bytes")
    }
  }

  /// Processor time of this thread: other work on the machine does not count.
  private static var threadSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  // MARK: Alarms

  private func falseAlarms(_ report: inout ShiftReport) {
    let kinds = QuietStream.allCases
    let counts = Counts()
    DispatchQueue.concurrentPerform(iterations: kinds.count) { index in
      let count = kinds[index].falseAlarms(arl0: arl0, events: events, seed: seed + UInt64(index))
      counts.set(index, count)
    }
    for (index, kind) in kinds.enumerated() {
      guard let count = counts.get(index) else { continue }
      report.addRange("ARL0: \(kind.rawValue)", count.arl0, around: arl0, alarms: count.alarms)
    }
  }

  private final class Counts: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var counts: [Int: QuietStream.Count] = [:]

    func set(_ index: Int, _ count: QuietStream.Count) { lock.withLock { counts[index] = count } }
    func get(_ index: Int) -> QuietStream.Count? { lock.withLock { counts[index] } }
  }

  private func detection(_ report: inout ShiftReport, _ river: RiverFigures?) {
    for stream in ChangedStream.allCases {
      let ours = stream.detection(arl0: arl0, trials: trials, seed: seed)
      let peers = (river?.rows ?? []).filter { $0.stream == stream.rawValue }
      report.detections.append(
        .init(
          stream: stream.rawValue, detector: "ours", detected: ours.share,
          medianDelay: ours.medianDelay, early: Double(ours.early) / Double(ours.trials)))
      report.detections += peers.map {
        .init(
          stream: $0.stream, detector: "River \($0.detector)", detected: $0.detected,
          medianDelay: $0.medianDelay, early: Double($0.early) / Double($0.trials))
      }
      guard let goal = [ChangedStream.rateToHalf: 80.0, .meanByOne: 95][stream] else { continue }
      report.rows.append(
        .init(
          name: "found, at least \(Int(goal)) %: \(stream.rawValue)", ours: 100 * ours.share,
          peer: peers.map { 100 * $0.detected }.max(), ratio: 100 * ours.share / goal, goal: 1,
          unit: "%"))
    }
  }

  // MARK: River

  struct RiverFigures: Decodable {
    struct Row: Decodable {
      let stream: String
      let detector: String
      let detected: Double
      let medianDelay: Double?
      let early: Int
      let trials: Int
      let updatesPerS: Double
    }
    let versions: [String: String]
    let rows: [Row]
  }

  private func riverFigures(_ python: String) throws -> RiverFigures? {
    let programs = PeerPrograms(model: "", threads: 1, python: python, project: project)
    guard programs.has("river"), programs.has("scipy") else {
      say("River not installed for \(python): pip install river numpy. Only ours is measured.")
      return nil
    }
    say("River's detectors at an ARL0 of \(Int(arl0)) (some minutes)")
    return try programs.script(
      "river_detectors.py", ["--arl0", "\(arl0)"], as: RiverFigures.self)
  }

  private func say(_ text: String) {
    FileHandle.standardError.write(Data("bench: \(text)\n".utf8))
  }
}

/// `oppu-bench calibrate`: the thresholds' table again.
struct Calibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Simulates the thresholds of shift detection; prints ThresholdValues.swift.",
    discussion: "Some minutes on all cores. The table in the sources was made with the defaults.")

  @Option var seed: UInt64 = 5
  @Option(help: "False alarms to see in each cell at an ARL0 of 1,000.") var alarms = 300
  @Option(help: "The same at 10,000.") var rareAlarms = 150

  func run() {
    print(ThresholdSimulation.source(alarms: (alarms, rareAlarms), seed: seed), terminator: "")
  }
}
