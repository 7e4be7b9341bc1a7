// What infer keeps with a group's offset, and where it begins where that does not fit the log.

import KafkaClient
import Storage
import Testing

@testable import Worker

@Suite struct GroupPositionTests {
  private let partition = TopicPartition(topic: "requests", partition: 3)

  private func position(next: Int64, anchor: LogMark?, last: LogMark?) -> LogPosition {
    LogPosition(topic: "requests", partition: 3, next: next, anchor: anchor, last: last)
  }

  @Test("what is committed is read back as it was")
  func roundTrip() {
    let marks = [
      nil, LogMark(offset: 0, digest: 0), LogMark(offset: .max - 1, digest: -1),
      LogMark(offset: 7, digest: .min),
    ]
    for anchor in marks {
      for last in marks {
        let position = position(next: 8, anchor: anchor, last: last)
        #expect(LogPosition(partition, committed: position.committable) == position)
      }
    }
    #expect(LogPosition(partition, committed: nil) == position(next: -1, anchor: nil, last: nil))
  }

  @Test(
    "an offset that another tool has committed counts as it is",
    arguments: [
      "", "oppu1", "oppu1 1:2", "oppu1  1:2", "oppu2 1:2 3:4", "oppu1 -1:2 x:4", "oppu1 1 2",
      "oppu1 1:2:3 9223372036854775808:0", "NONE",
    ])
  func foreign(_ metadata: String) {
    let read = LogPosition(partition, committed: GroupOffset(next: 5, metadata: metadata))
    #expect(read == position(next: 5, anchor: nil, last: nil))
  }

  @Test("another log is read from its beginning, a shortened one from what is known to be the same")
  func restarts() throws {
    let held = position(
      next: 50, anchor: LogMark(offset: 30, digest: 1), last: LogMark(offset: 49, digest: 2))
    func start(_ view: LogView) throws -> Int64 {
      held.restart(over: try #require(held.gap(in: view)), view)
    }
    #expect(try start(LogView(low: 0, high: 70, anchor: .other, last: .other)) == 0)
    #expect(try start(LogView(low: 4, high: 10, anchor: .gone, last: .gone)) == 4)
    #expect(try start(LogView(low: 0, high: 40, anchor: .same, last: .gone)) == 31)
    #expect(try start(LogView(low: 0, high: 70, anchor: .same, last: .other)) == 31)
    #expect(try start(LogView(low: 60, high: 70, anchor: .gone, last: .gone)) == 60)
  }
}
