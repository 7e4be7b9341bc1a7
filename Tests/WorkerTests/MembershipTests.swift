// Consumers that lose their partitions, get them back or get nothing of them: the decisions, without a broker.

import KafkaClient
import Testing

@testable import Worker

@Suite struct MembershipTests {
  private let partition = TopicPartition(topic: "requests", partition: 0)
  private let start = ContinuousClock.now

  private func message(_ offset: Int64) -> KafkaMessage {
    KafkaMessage(topic: "requests", partition: 0, offset: offset, key: nil, value: nil)
  }

  @Test("a consumer is made anew five times within five minutes, each time after a longer pause")
  func fences() {
    var limit = FenceLimit()
    for times in 0..<FenceLimit.times {
      #expect(limit.pause(at: start + .seconds(10 * times)) == .seconds(1 << times))
    }
    #expect(limit.pause(at: start + .seconds(60)) == nil)
    #expect(limit.pause(at: start + .seconds(1_000)) == .seconds(1))
  }

  @Test("a lost partition that nobody else was at goes on behind what was read, and is committed")
  func regained() {
    let open = OpenRequests()
    let places = (40..<44).map { open.begin(message($0)) }
    open.finish(places[0], isDone: true)
    open.committed(open.uncommitted())
    open.lose(nil, at: start)
    open.finish(places[1], isDone: true)
    #expect(open.uncommitted().isEmpty, "while it may be another's nothing is committed")
    #expect(open.lost(among: [partition]) == [partition])
    #expect(open.regain(partition, committed: 41, at: start) == 44)
    #expect(open.lost(among: [partition]).isEmpty)
    #expect(open.uncommitted().mapValues(\.offset) == [partition: 41])
    for place in places[2...] { open.finish(place, isDone: true) }
    #expect(open.uncommitted().mapValues(\.offset) == [partition: 43])
  }

  @Test(
    "a lost partition that the group has moved begins where the group stands, and what was under way is not committed",
    arguments: [nil, 39, 45, 100] as [Int64?])
  func moved(_ committed: Int64?) {
    let open = OpenRequests()
    let places = (40..<44).map { open.begin(message($0)) }
    open.finish(places[0], isDone: true)
    open.committed(open.uncommitted())
    open.lose([partition], at: start)
    #expect(open.regain(partition, committed: committed, at: start) == nil)
    for place in places[1...] { open.finish(place, isDone: true) }
    #expect(open.uncommitted().isEmpty)
    #expect(open.count == 0)
  }

  @Test("a partition that was lost long ago begins where the group stands")
  func longAgo() {
    let open = OpenRequests()
    _ = open.begin(message(40))
    open.lose(nil, at: start)
    #expect(open.regain(partition, committed: 40, at: start + .seconds(301)) == nil)
  }

  @Test("of a group that has committed nothing yet a lost partition goes on too")
  func uncommitted() {
    let open = OpenRequests()
    _ = open.begin(message(0))
    open.lose(nil, at: start)
    #expect(open.regain(partition, committed: nil, at: start) == 1)
  }

  @Test(
    "a partition stands still where it is behind in the same place for a minute; told once a minute"
  )
  func stalls() {
    var watch = StallWatch()
    /// Looks every three seconds, as ingest does; returns when it was told.
    func look(_ next: Int64, _ end: Int64, from: Int, to: Int) -> [Int] {
      stride(from: from, through: to, by: 3).filter {
        watch.look(at: [partition: (next, end)], now: start + .seconds($0)) == [partition]
      }
    }
    #expect(look(5, 10, from: 0, to: 150) == [60, 120])
    #expect(look(6, 10, from: 153, to: 210).isEmpty, "it moves")
    #expect(look(10, 10, from: 213, to: 300).isEmpty, "at the end there is nothing to come")
    #expect(look(10, 11, from: 303, to: 360) == [360])
    #expect(watch.look(at: [:], now: start + .seconds(363)).isEmpty, "it was paused")
    #expect(look(10, 11, from: 366, to: 423).isEmpty)
    #expect(look(10, 11, from: 600, to: 657).isEmpty, "the broker was away")
    #expect(look(10, 11, from: 660, to: 660) == [660])
  }

  @Test(
    "what waits counts from the next message to the log's end, with what an open transaction holds")
  func backlog() {
    // The ends of transactions, and what was aborted, are no messages.
    #expect(Backlog(low: 0, high: 51, stable: 51, next: nil).count == 0)
    #expect(Backlog(low: 0, high: 60, stable: 60, next: 51).count == 9)
    let held = Backlog(low: 0, high: 180, stable: 10, next: nil)
    #expect(held.count == 170)
    #expect(held.held == 170)
  }
}
