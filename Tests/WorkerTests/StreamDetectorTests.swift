// What the scheduler's detectors look at, task by task.

import Foundation
import Personalization
import StructuredLogging
import Testing

@testable import Storage
@testable import Worker

@Suite struct StreamDetectorTests {
  private func task(signals: [ShiftSignal]) throws -> TaskDefinition {
    var task = try TaskCatalogue.builtIn.task(named: "film_tag")
    task.shiftSignals = signals
    return task
  }

  /// A user who tags everything funny, and from the 31st event on everything sad.
  private let events = (1...60).map { number in
    WatchedEvent(
      ordinal: Int64(number), input: ["film": .string("Film \(number)")],
      output: number <= 30 ? "funny" : "sad")
  }

  private func seen(_ task: TaskDefinition) -> StreamDetectors.Seen {
    StreamDetectors(logger: Logger(label: "test")).observe(
      events, losses: [:], task: task,
      of: ScheduledStream(
        stream: StreamID(userID: "kim", task: task.name), incarnation: 1, eventCount: 60,
        scheduledThrough: 0, monitor: nil, monitorVersion: nil, pendingShift: nil,
        activeVersion: nil, trainedThrough: nil, replacedVersion: nil, promotedAfter: nil,
        trial: nil, lastTrainOrdinal: nil, lastTrainAt: nil, isDue: false, lastChangeOrdinal: nil,
        hasOpenJob: false), arl0: 1_000)
  }

  @Test("a change of outputs is seen where the task goes by outputs, and nowhere else")
  func signalsOfTheTask() throws {
    let alarm = try #require(try seen(task(signals: ShiftSignal.allCases)).alarm)
    #expect((28...33).contains(alarm.changeOrdinal))
    #expect(try seen(task(signals: [.output])).alarm != nil)
    #expect(try seen(task(signals: [.loss, .input])).alarm == nil)
    let off = try seen(task(signals: []))
    #expect(off.alarm == nil && off.signals.isEmpty)
    #expect(off.monitor.observations == 60)
  }
}
