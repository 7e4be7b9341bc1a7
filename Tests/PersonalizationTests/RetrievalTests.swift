import Foundation
import Testing

@testable import Personalization

@Suite struct RetrievalTests {
  @Test("scores equal rank_bm25's, also for words that most documents hold")
  func reference() throws {
    var negative = 0
    for reference in try #require(try fixture("bm25.json")["cases"]?.array) {
      var index = BM25Index()
      for document in try #require(reference["documents"]?.array) {
        index.append(try #require(document.string))
      }
      for query in try #require(reference["queries"]?.array) {
        let scores = index.scores(try #require(query["query"]?.string))
        let expected = try #require(query["scores"]?.array).compactMap(\.number)
        #expect(scores.count == expected.count)
        for (found, wanted) in zip(scores, expected) { #expect(abs(found - wanted) < 1e-6) }
        negative += expected.filter { $0 < 0 }.count
      }
    }
    #expect(negative > 0, "the fixture must hold the negative floor")
  }

  @Test("the best come first and of equal ones the newer")
  func ties() {
    var index = BM25Index()
    for text in ["red apple pie", "green apple", "red apple pie", "blue sky", "blue sky"] {
      index.append(text)
    }
    #expect(index.topK("Red pie", k: 3) == [2, 0, 4])
    #expect(index.topK("red pie", k: 9, from: 1) == [2, 4, 3, 1])
    #expect(index.topK("red", k: 0).isEmpty)
    #expect(index.topK("red", k: 2, from: 5).isEmpty)
    #expect(BM25Index().topK("red", k: 2).isEmpty)
  }

  @Test("documents without words score nothing and break nothing")
  func emptyDocuments() {
    var index = BM25Index()
    index.append("")
    #expect(index.scores("x") == [0])
    index.append("x")
    #expect(index.scores("x").allSatisfy { $0.isFinite })
  }

  @Test("an index over 1,000 items is built and asked well within a request's time")
  func speed() {
    let texts = (0..<1_000).map { n in
      (0..<60).map { "w\(($0 * n + $0) % 997)" }.joined(separator: " ")
    }
    let start = ContinuousClock.now
    var index = BM25Index()
    for text in texts { index.append(text) }
    let best = index.topK(texts[500], k: 4)
    let elapsed = ContinuousClock.now - start
    #expect(best.count == 4)
    // Some 30 ms where this was written; the limit only catches a wrong order of growth.
    #expect(elapsed < .seconds(2), "took \(elapsed)")
  }
}
