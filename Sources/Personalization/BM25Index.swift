// Okapi BM25 over one user's history, built item by item.

import Foundation

/// A BM25 index that grows. Scores equal rank_bm25's `BM25Okapi` (Robertson and Zaragoza, "The
/// Probabilistic Relevance Framework", 2009, with its floor for negative idf): with N documents, n of
/// them holding the term, f occurrences in a document of length l and mean length L,
///
///     idf = ln(N − n + 0.5) − ln(n + 0.5), or epsilon × the mean idf of all terms where negative
///     score = Σ over query words of idf × f (k1 + 1) / (f + k1 (1 − b + b l / L))
///
/// Words are what white space separates, in lower case.
public struct BM25Index: Sendable {
  public let k1: Double
  public let b: Double
  public let epsilon: Double

  private var termNumbers: [String: Int] = [:]
  /// For each term the documents that hold it, oldest first, with the number of occurrences.
  private var postings: [[(document: Int32, count: Int32)]] = []
  private var lengths: [Int] = []
  private var totalLength = 0
  /// How many terms are held by n documents: the mean idf without a walk over the vocabulary.
  private var termsByDocumentCount: [Int: Int] = [:]

  public init(k1: Double = 1.5, b: Double = 0.75, epsilon: Double = 0.25) {
    self.k1 = k1
    self.b = b
    self.epsilon = epsilon
  }

  /// The number of documents.
  public var count: Int { lengths.count }

  static func words(_ text: String) -> [String] {
    text.lowercased().split(whereSeparator: \.isWhitespace).map(String.init)
  }

  /// Adds a document; its number is the count before.
  public mutating func append(_ text: String) {
    let document = Int32(lengths.count)
    let words = Self.words(text)
    lengths.append(words.count)
    totalLength += words.count
    for word in words {
      let term: Int
      if let known = termNumbers[word] {
        term = known
      } else {
        term = postings.count
        termNumbers[word] = term
        postings.append([])
      }
      if let last = postings[term].last, last.document == document {
        postings[term][postings[term].count - 1].count += 1
      } else {
        let holders = postings[term].count
        if holders > 0 { termsByDocumentCount[holders, default: 0] -= 1 }
        termsByDocumentCount[holders + 1, default: 0] += 1
        postings[term].append((document, 1))
      }
    }
  }

  private func plainInverseFrequency(_ holders: Int) -> Double {
    log(Double(count - holders) + 0.5) - log(Double(holders) + 0.5)
  }

  /// The scores of all documents, in order of their numbers.
  public func scores(_ query: String) -> [Double] {
    var scores = [Double](repeating: 0, count: count)
    guard totalLength > 0 else { return scores }
    var sum = 0.0
    for holders in termsByDocumentCount.keys.sorted() {
      sum += Double(termsByDocumentCount[holders] ?? 0) * plainInverseFrequency(holders)
    }
    let floor = epsilon * sum / Double(postings.count)
    let meanLength = Double(totalLength) / Double(count)
    for word in Self.words(query) {
      guard let term = termNumbers[word] else { continue }
      let plain = plainInverseFrequency(postings[term].count)
      let weight = plain < 0 ? floor : plain
      for (document, occurrences) in postings[term] {
        let f = Double(occurrences)
        let norm = k1 * (1 - b + b * Double(lengths[Int(document)]) / meanLength)
        scores[Int(document)] += weight * (f * (k1 + 1) / (f + norm))
      }
    }
    return scores
  }

  /// The numbers of the k best documents, best first; of equal scores the newer one comes first.
  ///
  /// - Parameter first: documents with lower numbers are not considered.
  public func topK(_ query: String, k: Int, from first: Int = 0) -> [Int] {
    guard k > 0, first < count else { return [] }
    let scores = scores(query)
    let order = (max(0, first)..<count).sorted {
      scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 > $1
    }
    return Array(order.prefix(k))
  }
}

/// A user's history for a task with its index: what training and serving both retrieve from.
public struct HistoryRetriever: Sendable {
  public let task: TaskDefinition
  public private(set) var items: [HistoryItem] = []
  private var index = BM25Index()

  /// - Parameter items: oldest first.
  public init(task: TaskDefinition, items: [HistoryItem] = []) {
    self.task = task
    for item in items { append(item) }
  }

  /// Adds the next newer item.
  public mutating func append(_ item: HistoryItem) {
    items.append(item)
    index.append(task.queryText(item.input))
  }

  /// The k items nearest to an input, best first.
  ///
  /// - Parameter first: items with lower positions, such as those before a shift, are left out.
  public func retrieve(_ input: [String: JSONValue], k: Int, from first: Int = 0) -> [HistoryItem] {
    index.topK(task.queryText(input), k: k, from: first).map { items[$0] }
  }
}
