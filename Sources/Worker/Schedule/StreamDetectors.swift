// The caller of the shift detectors: events in, alarms and numbers out.

import Foundation
import Personalization
import ShiftDetection
import Storage
import StructuredLogging

struct StreamDetectors: Sendable {
  let logger: Logger

  /// What the detectors found in the events of one look.
  struct Seen: Sendable {
    struct Alarm: Sendable {
      var ordinal: Int64
      var changeOrdinal: Int64
      var signals: [Signal]
    }
    var monitor: ShiftMonitor
    /// After the newest event.
    var signals: [Signal] = []
    /// The newest alarm, if there was one.
    var alarm: Alarm?
  }

  /// Losses that are not numbers are left out: an adapter that is broken says nothing of the user.
  /// - Parameter arl0: events between false alarms of a user who does not change.
  func observe(
    _ events: [WatchedEvent], losses: [Int64: Double], task: TaskDefinition,
    of state: ScheduledStream, arl0: Double
  ) -> Seen {
    var seen = Seen(monitor: monitor(of: state))
    // Both may have changed since the state was written.
    seen.monitor.configuration.arl0 = arl0
    seen.monitor.configuration.signals = Set(
      task.shiftSignals.compactMap { SignalKind(rawValue: $0.rawValue) })
    for event in events {
      // The monitor counts its observations from 0; this one's number tells which ordinal that is.
      let shift = event.ordinal - Int64(seen.monitor.observations)
      seen.signals = seen.monitor.observe(
        Observation(
          loss: losses[event.ordinal].flatMap { $0.isFinite ? $0 : nil },
          output: event.output.flatMap(task.observed), input: task.queryText(event.input)))
      let alarms = seen.signals.filter(\.isAlarm)
      if let surest = alarms.max(by: { ($0.rarity ?? 0) < ($1.rarity ?? 0) }) {
        let change = surest.changeIndex.map { Int64($0) + shift } ?? event.ordinal
        seen.alarm = .init(
          ordinal: event.ordinal, changeOrdinal: max(1, change), signals: seen.signals)
      }
    }
    return seen
  }

  private func monitor(of state: ScheduledStream) -> ShiftMonitor {
    var monitor = ShiftMonitor()
    if let stored = state.monitor {
      do {
        monitor = try ShiftMonitor(bytes: Array(stored))
      } catch {
        // State of another release: begin again rather than stop watching.
        logger.warning(
          "detector state not readable, starting anew: \(error)",
          metadata: ["stream": "\(state.stream)"])
      }
    }
    if state.monitorVersion != state.activeVersion { monitor.reset(after: .newAdapter) }
    return monitor
  }
}

extension TaskDefinition {
  /// A stored output as the detectors take it.
  fileprivate func observed(_ output: String) -> ObservedOutput? {
    switch kind {
    case .label: .label(output)
    case .rating: Double(output).map { .rating($0) }
    case .text: .text(output)
    }
  }
}
