// Speed of the default model on this machine; printed, not judged. Runs where OPPU_BENCH is set.

import Foundation
import LinearAlgebra
import Testing

@testable import LanguageModel

@Suite("Speed", .serialized, .enabled(if: ProcessInfo.processInfo.environment["OPPU_BENCH"] != nil))
struct SpeedTests {
  private func seconds(_ best: Int, _ body: () throws -> Void) rethrows -> Double {
    var least = Double.infinity
    for _ in 0..<best {
      least = min(least, try ContinuousClock().measure(body) / .seconds(1))
    }
    return least
  }

  @Test("Prefill, decode and loss rates")
  func rates() throws {
    let load = try seconds(2) { _ = try LlamaModel.load(path: TestModel.path) }
    let model = try TestModel.int8.get()
    print("load \(Int(load * 1000)) ms, fingerprint \(seconds(1) { _ = model.fingerprint }) s")
    print("\(BLAS.shared.report.coreName) \(Int(BLAS.shared.measureGFLOPS())) GFLOP/s")
    let prompt = (0..<512).map { Int32(1000 + $0 * 7) }
    for count in [64, 256, 512] {
      let time = try seconds(3) {
        _ = try model.forward([
          Chunk(tokens: Array(prompt[..<count]), cache: KVCache(for: model))
        ])
      }
      print("prefill \(count): \(Int(Double(count) / time)) tokens/s")
    }
    for (streams, context) in [(1, 16), (1, 512), (4, 128), (8, 128), (16, 128)] {
      let caches = try (0..<streams).map { _ in
        let cache = KVCache(for: model)
        _ = try model.forward([Chunk(tokens: Array(prompt[..<context]), cache: cache)])
        return cache
      }
      let steps = 24
      let time = try seconds(2) {
        for _ in 0..<steps {
          _ = try model.forward(caches.map { Chunk(tokens: [77], cache: $0) })
        }
        for cache in caches { cache.truncate(to: context) }
      }
      print(
        "decode \(streams) at \(context): \(Int(Double(streams * steps) / time)) tokens/s")
    }
    let losses = try seconds(2) { _ = try model.losses(of: Array(prompt[..<256])) }
    print("losses of 256: \(Int(256 / losses)) tokens/s")
    let text = String(repeating: "The quick brown fox, it's 1 of 12 jumping.\n", count: 20_000)
    let encode = seconds(2) { _ = model.tokenizer.encode(text) }
    print("tokeniser: \(Double(text.utf8.count) / encode / 1e6) MB/s")
  }
}
