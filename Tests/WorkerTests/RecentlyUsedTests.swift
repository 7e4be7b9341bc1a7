// The order of last use, held against a plain list by random operations.

import RandomNumbers
import Testing

@testable import Worker

@Suite("Recently used") struct RecentlyUsedTests {
  /// What the order means, written down without regard to cost: least recently used first.
  private struct Model {
    var order: [(key: Int, value: Int)] = []

    mutating func take(_ key: Int) -> Int? {
      order.firstIndex { $0.key == key }.map { order.remove(at: $0).value }
    }

    mutating func insert(_ value: Int, for key: Int) {
      _ = take(key)
      order.append((key, value))
    }
  }

  @Test("Random uses, insertions and removals leave the order that a plain list has")
  func model() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("recently used: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for keys in [1, 3, 40] {
      var model = Model()
      var tested = RecentlyUsed<Int, Int>()
      for step in 0..<20_000 {
        let key = Int.random(in: 0..<keys, using: &random)
        switch Int.random(in: 0..<9, using: &random) {
        case 0..<4:
          model.insert(step, for: key)
          tested.insert(step, for: key)
        case 4..<7:
          let expected = model.take(key)
          if let expected { model.insert(expected, for: key) }
          #expect(tested.use(key) == expected)
        case 7:
          #expect(tested.remove(key) == model.take(key))
        default:
          let expected = model.order.isEmpty ? nil : model.order.removeFirst()
          let found = tested.removeLeastRecent()
          #expect(found?.key == expected?.key && found?.value == expected?.value)
        }
        #expect(tested.count == model.order.count)
      }
      #expect(Set(tested.keys) == Set(model.order.map(\.key)))
      while let oldest = tested.removeLeastRecent() {
        #expect(oldest.key == model.order.removeFirst().key)
      }
      #expect(model.order.isEmpty)
    }
  }

  @Test("A copy goes its own way")
  func copy() {
    var one = RecentlyUsed<String, Int>()
    one.insert(1, for: "a")
    one.insert(2, for: "b")
    var other = one
    _ = other.use("a")
    #expect(one.removeLeastRecent()?.key == "a")
    #expect(other.removeLeastRecent()?.key == "b")
  }
}
