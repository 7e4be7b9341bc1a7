// What follows from a stored offset and what the log shows: a pure value.

import Foundation
import KafkaClient
import Personalization
import Storage
import Testing

@testable import Worker

@Suite struct LogPositionTests {
  private let mark = LogMark(offset: 49, digest: 7)

  private func position(next: Int64 = 50, anchor: Int64? = 0) -> LogPosition {
    LogPosition(
      topic: "t", partition: 0, next: next, anchor: anchor.map { LogMark(offset: $0, digest: 1) },
      last: LogMark(offset: next - 1, digest: 7))
  }

  private func view(
    _ low: Int64, _ high: Int64, anchor: LogView.Sighting = .same, last: LogView.Sighting = .same
  ) -> LogView {
    LogView(low: low, high: high, anchor: anchor, last: last)
  }

  @Test("an offset within its own log goes on, at its end and right after what expired too")
  func fits() {
    #expect(position().gap(in: view(0, 50)) == nil)
    #expect(position().gap(in: view(0, 80)) == nil)
    #expect(position().gap(in: view(50, 80, anchor: .gone, last: .gone)) == nil)
    #expect(LogPosition(topic: "t", partition: 0).gap(in: view(30, 80)) == nil)
  }

  @Test("messages that expired before they were read are counted")
  func expired() throws {
    let gap = try #require(position(next: 180).gap(in: view(280, 300, anchor: .gone, last: .gone)))
    #expect(gap.kind == .expired && gap.missing == 100)
    #expect(
      gap.description
        == "100 messages expired on the broker before they were read (offsets 180 to 279)")
  }

  @Test("another topic under the name is told by its messages, longer or shorter or empty")
  func replaced() {
    for view in [
      view(0, 70, anchor: .other, last: .other), view(0, 30, anchor: .other, last: .gone),
      view(0, 0, anchor: .gone, last: .gone), view(0, 70, anchor: .gone, last: .other),
    ] {
      #expect(position().gap(in: view)?.kind == .replaced)
    }
  }

  @Test("a log that lost what had been read is told from another topic")
  func truncated() {
    for view in [
      view(0, 30, last: .gone), view(0, 70, last: .other),
      // What the position was known by has expired, which a new topic's has not.
      view(20, 30, anchor: .gone, last: .gone),
    ] {
      #expect(position().gap(in: view)?.kind == .truncated)
    }
  }

  @Test("the policy says where a partition goes on and what is then missing")
  func policy() throws {
    let expired = LogGap(kind: .expired, next: 180, low: 280, high: 300)
    #expect(OffsetGapPolicy.stop.resolve(expired) == nil)
    let earliest = try #require(OffsetGapPolicy.earliest.resolve(expired))
    #expect(earliest == (280, 100))
    let latest = try #require(OffsetGapPolicy.latest.resolve(expired))
    #expect(latest == (300, 120))
    let replaced = LogGap(kind: .replaced, next: 50, low: 0, high: 70)
    #expect(try #require(OffsetGapPolicy.earliest.resolve(replaced)) == (0, 0))
    #expect(try #require(OffsetGapPolicy.latest.resolve(replaced)) == (70, 70))
  }

  @Test("what a process read itself moves a position on, never back behind what others committed")
  func passing() {
    var position = LogPosition(topic: "t", partition: 0, next: 100)
    position.pass(mark)
    #expect(position.next == 100 && position.last == mark)
    #expect(position.gap(in: view(80, 120, anchor: .gone, last: .gone)) == nil)
    position = LogPosition(topic: "t", partition: 0, next: 30)
    position.pass(mark)
    #expect(position.next == 50 && position.last == mark)
  }

  @Test("a message is known again by its time, its key and its value")
  func marks() {
    let message = KafkaMessage(
      topic: "t", partition: 0, offset: 5, key: Data("k".utf8), value: Data("v".utf8),
      timestamp: Date(timeIntervalSince1970: 1_700_000_000.123))
    #expect(LogMark(message) == LogMark(message))
    var others = [message, message, message, message]
    others[0].timestamp = Date(timeIntervalSince1970: 1_700_000_000.124)
    others[1].key = Data("kv".utf8)
    others[1].value = Data()
    others[2].value = nil
    others[3].offset = 6
    #expect(Set((others + [message]).map { LogMark($0) }).count == 5)
  }

  @Test("derived event ids of a topic made anew are others; those of the first are as ever")
  func derivedIDs() throws {
    let message = KafkaMessage(
      topic: "t", partition: 2, offset: 7, key: nil,
      value: Data(#"{"user_id":"kim","task":"film_tag","input":{"film":"F"}}"#.utf8))
    func id(_ logNumber: Int64) throws -> String? {
      var decoder = EventDecoder(catalogue: .builtIn, logNumber: logNumber)
      guard case .record(let event) = try decoder.decode(message, now: Date()) else { return nil }
      return event.eventID
    }
    #expect(try id(0) == "t-2-7")
    #expect(try id(1) == "t-2-7.1")
  }
}
