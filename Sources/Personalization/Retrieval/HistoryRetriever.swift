// What training and serving retrieve from a user's history, and how.

import Foundation
import JSON

/// How past items are chosen for a prompt.
public enum RetrievalMethod: String, Codable, Sendable, CaseIterable {
  /// The items nearest to the input's words (Okapi BM25), whatever their age.
  case bm25
  /// The newest items, whatever the input.
  case recency
  /// BM25 scores that halve with every `HistoryRetriever.halfLife` newer items.
  ///
  /// Not reciprocal rank fusion: ranks forget how much better an item is, so the newest item,
  /// however foreign, would always stand beside the only one that fits. A decayed score keeps an
  /// item without a common word at zero, orders equals by age, and where nothing fits falls back to
  /// the newest. On seven public data sets the four items it found answered as well as BM25's or
  /// better on five, rank fusion's on two (docs/tasks.md).
  case combined
}

/// A user's history for a task with its index: what training and serving both retrieve from.
public struct HistoryRetriever: Sendable {
  /// The task of the history's items.
  public let task: TaskDefinition
  /// How items are chosen.
  public let method: RetrievalMethod
  /// Oldest first.
  public private(set) var items: [HistoryItem] = []
  private var index = BM25Index()

  /// The number of newer items at which the `combined` score of an item has halved.
  public static let halfLife = 64.0

  /// - Parameter items: oldest first.
  public init(task: TaskDefinition, items: [HistoryItem] = [], method: RetrievalMethod = .bm25) {
    self.task = task
    self.method = method
    for item in items { append(item) }
  }

  /// Adds the next newer item.
  public mutating func append(_ item: HistoryItem) {
    items.append(item)
    if method != .recency { index.append(task.itemText(item)) }
  }

  /// The k items nearest to an input, best first.
  ///
  /// - Parameter first: items with lower positions, such as those before a shift, are left out.
  public func retrieve(_ input: [String: JSONValue], k: Int, from first: Int = 0) -> [HistoryItem] {
    retrieve(text: task.queryText(input), k: k, from: first)
  }

  /// The k items nearest to a query's text, best first: for a query of another task than the
  /// items'.
  public func retrieve(text: String, k: Int, from first: Int = 0) -> [HistoryItem] {
    switch method {
    case .recency:
      guard k > 0 else { return [] }
      return items[min(max(0, first), items.count)...].suffix(k).reversed()
    case .bm25:
      return index.topK(text, k: k, from: first).map { items[$0] }
    case .combined:
      let newest = items.count - 1
      return index.topK(text, k: k, from: first) { number, score in
        let decay = exp2(-Double(newest - number) / Self.halfLife)
        // The floor of negative idf can itself be negative; age must not make such a score better.
        return score > 0 ? score * decay : score
      }.map { items[$0] }
    }
  }
}
