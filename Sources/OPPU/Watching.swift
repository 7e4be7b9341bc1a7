// Events of a task as the shift detectors see them, and the alarm that they come to: for the scheduler and for studies.

import Foundation
import JSON
import Personalization
import ShiftDetection

extension TaskDefinition {
  /// What the task's streams are watched for.
  public var watchedSignals: Set<SignalKind> {
    Set(shiftSignals.compactMap { SignalKind(rawValue: $0.rawValue) })
  }

  /// An event as the monitor takes it.
  ///
  /// - Parameter loss: of the output under the active adapter; one that is no number says nothing of the user.
  public func observation(
    of input: [String: JSONValue], output: String?, loss: Double?
  ) -> Observation {
    let observed: ObservedOutput? = output.flatMap { output in
      switch kind {
      case .label: .label(output)
      case .rating: Double(output).map { .rating($0) }
      case .text: .text(output)
      }
    }
    return Observation(
      loss: loss.flatMap { $0.isFinite ? $0 : nil }, output: observed, input: queryText(input))
  }
}

extension ShiftMonitor {
  /// Shows the monitor the next event.
  ///
  /// - Returns: what every detector says, and where one of them alarms, the likeliest first event of the new behaviour by
  ///   the surest of them: the event's number, from 0.
  public mutating func watch(_ observation: Observation) -> (signals: [Signal], change: Int?) {
    let number = observations
    let signals = observe(observation)
    let surest = signals.filter(\.isAlarm).max { ($0.rarity ?? 0) < ($1.rarity ?? 0) }
    return (signals, surest.map { $0.changeIndex ?? number })
  }
}
