// Generating text for several users' requests in common steps.

import Foundation
import LinearAlgebra

/// What to continue, and how.
public struct GenerationRequest: Sendable {
  /// At least one token.
  public var prompt: [Int32]
  /// The most tokens to generate.
  public var maxTokens: Int
  public var sampling: SamplingOptions
  /// Tokens that end the text; they are not part of the result.
  public var stopTokens: Set<Int32>
  /// The user's adapter, nil for the base model.
  public var adapter: Adapter?

  public init(
    prompt: [Int32], maxTokens: Int, sampling: SamplingOptions = .greedy,
    stopTokens: Set<Int32> = [], adapter: Adapter? = nil
  ) {
    self.prompt = prompt
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.adapter = adapter
  }
}

/// Why a text ended.
public enum FinishReason: String, Sendable, Codable {
  /// A stop token came.
  case stop
  /// `maxTokens` were generated.
  case length
  /// The model's context is full.
  case contextFull
  /// The caller asked to end.
  case cancelled
}

/// The continuation of one request.
public struct GenerationResult: Sendable {
  public let tokens: [Int32]
  public let finishReason: FinishReason
  /// From the call's beginning until the prompts of its requests were computed.
  public let prefillSeconds: Double
  /// From then until this request's last token.
  public let decodeSeconds: Double
}

extension LlamaModel {
  /// Continues each prompt, all of them step by step together, each with its own adapter. Blocks the
  /// calling thread.
  ///
  /// `onToken` gets the request's index and each token as it is chosen (stop tokens excluded) and
  /// returns false to end that request; `isCancelled` is asked before every step and ends them all.
  /// Throws ``InferenceError``.
  public func generate(
    _ requests: [GenerationRequest], pool: ThreadPool = .shared,
    isCancelled: () -> Bool = { false },
    onToken: (_ request: Int, _ token: Int32) -> Bool = { _, _ in true }
  ) throws(InferenceError) -> [GenerationResult] {
    let clock = ContinuousClock()
    let start = clock.now
    for request in requests { try request.sampling.check() }
    var sequences = requests.enumerated().map { index, request in
      Sequence(
        index: index, cache: KVCache(for: configuration), sampler: Sampler(request.sampling),
        next: request.prompt)
    }
    var active = sequences.indices.filter { requests[$0].maxTokens > 0 }
    var prefillSeconds = 0.0
    var isFirst = true
    while !active.isEmpty {
      if isCancelled() {
        for index in active { sequences[index].finish(.cancelled, clock.now - start) }
        break
      }
      let logits = try forward(
        active.map {
          Chunk(
            tokens: sequences[$0].next, cache: sequences[$0].cache,
            adapter: requests[$0].adapter, logits: .last)
        }, pool: pool)
      if isFirst {
        prefillSeconds = (clock.now - start) / .seconds(1)
        isFirst = false
      }
      for (index, row) in zip(active, logits) {
        let token = try sequences[index].sampler.choose(row[0])
        let elapsed = clock.now - start
        if requests[index].stopTokens.contains(token) {
          sequences[index].finish(.stop, elapsed)
          continue
        }
        sequences[index].tokens.append(token)
        sequences[index].next = [token]
        if !onToken(index, token) {
          sequences[index].finish(.cancelled, elapsed)
        } else if sequences[index].tokens.count >= requests[index].maxTokens {
          sequences[index].finish(.length, elapsed)
        } else if sequences[index].cache.count >= configuration.contextLength {
          sequences[index].finish(.contextFull, elapsed)
        }
      }
      active.removeAll { sequences[$0].reason != nil }
    }
    return sequences.map { sequence in
      GenerationResult(
        tokens: sequence.tokens, finishReason: sequence.reason ?? .length,
        prefillSeconds: prefillSeconds,
        decodeSeconds: max(sequence.elapsed / .seconds(1) - prefillSeconds, 0))
    }
  }

  /// A request under way.
  private struct Sequence {
    let index: Int
    let cache: KVCache
    var sampler: Sampler
    /// What the next step computes: the prompt, then the last token.
    var next: [Int32]
    var tokens: [Int32] = []
    var reason: FinishReason?
    var elapsed = Duration.zero

    mutating func finish(_ reason: FinishReason, _ elapsed: Duration) {
      self.reason = reason
      self.elapsed = elapsed
    }
  }
}
