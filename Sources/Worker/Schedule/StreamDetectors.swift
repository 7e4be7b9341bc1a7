// The caller of the shift detectors: events in, alarms and numbers out.

import Foundation
import OPPU
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

  /// - Parameter arl0: events between false alarms of a user who does not change.
  func observe(
    _ events: [WatchedEvent], losses: [Int64: Double], task: TaskDefinition,
    of state: ScheduledStream, arl0: Double
  ) -> Seen {
    var seen = Seen(monitor: monitor(of: state))
    // Both may have changed since the state was written.
    seen.monitor.configuration.arl0 = arl0
    seen.monitor.configuration.signals = task.watchedSignals
    for event in events {
      // The monitor counts its observations from 0; this one's number tells which ordinal that is.
      let shift = event.ordinal - Int64(seen.monitor.observations)
      let (signals, change) = seen.monitor.watch(
        task.observation(
          of: event.input, output: event.output, loss: losses[event.ordinal]))
      seen.signals = signals
      if let change {
        seen.alarm = .init(
          ordinal: event.ordinal, changeOrdinal: max(1, Int64(change) + shift), signals: signals)
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
