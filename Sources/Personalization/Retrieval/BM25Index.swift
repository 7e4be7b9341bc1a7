// Okapi BM25 over one user's history, built item by item.

import Foundation

/// A BM25 index that grows. Scores equal rank_bm25's `BM25Okapi` (Robertson and Zaragoza, "The
/// Probabilistic Relevance Framework", 2009, with its floor for negative idf): with N documents, n of
/// them holding the term, f occurrences in a document of length l and mean length L,
///
///     idf = ln(N − n + 0.5) − ln(n + 0.5), or epsilon × the mean idf of all terms where negative
///     score = Σ over query words of idf × f (k1 + 1) / (f + k1 (1 − b + b l / L))
///
/// Words are what white space separates, in lower case; a word that a query repeats counts again.
public struct BM25Index: Sendable {
  /// How late further occurrences of a term stop to count.
  public let k1: Double
  /// How much of a document's length counts: 0, nothing, to 1.
  public let b: Double
  /// What of the mean idf a negative one is replaced by.
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

  /// Python's `text.lower().split()`: scalars, not characters, so that a mark after a space does not
  /// glue two words together.
  static func words(_ text: String) -> [String] {
    var words: [String] = []
    let lower = text.lowercased()
    let bytes = lower.utf8
    var start = bytes.startIndex
    func close(at end: String.Index) {
      if start < end { words.append(String(lower[start..<end])) }
    }
    var index = bytes.startIndex
    while index < bytes.endIndex {
      let byte = bytes[index]
      if byte > 0x20, byte < 0x80 {
        index = bytes.index(after: index)
        continue
      }
      let scalar = lower.unicodeScalars[index]
      let next = lower.unicodeScalars.index(after: index)
      // Python also splits at the four separators of ASCII.
      if scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value) {
        close(at: index)
        start = next
      }
      index = next
    }
    close(at: bytes.endIndex)
    return words
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
  /// - Parameters:
  ///   - first: documents with lower numbers are not considered.
  ///   - weigh: what to make of a document's score, by its number; the score itself by default.
  public func topK(
    _ query: String, k: Int, from first: Int = 0, weigh: (Int, Double) -> Double = { $1 }
  ) -> [Int] {
    guard k > 0, first < count else { return [] }
    let scores = scores(query)
    // Sorted, best first, never longer than k: the whole list is never sorted.
    var best: [(score: Double, number: Int)] = []
    for number in max(0, first)..<count {
      let score = weigh(number, scores[number])
      // Numbers rise, so an equal score is a newer document's and goes first.
      if best.count == k, let last = best.last, score < last.score { continue }
      let place = best.firstIndex { $0.score <= score } ?? best.count
      best.insert((score, number), at: place)
      if best.count > k { best.removeLast() }
    }
    return best.map(\.number)
  }
}
