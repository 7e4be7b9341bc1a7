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
  /// What the text has to be, nil for anything.
  public var constraint: OutputConstraint?
  /// Whose the prompt's beginnings are in a ``PrefixCache``.
  public var owner: PrefixOwner

  public init(
    prompt: [Int32], maxTokens: Int, sampling: SamplingOptions = .greedy,
    stopTokens: Set<Int32> = [], adapter: Adapter? = nil, constraint: OutputConstraint? = nil,
    owner: PrefixOwner = .everybody
  ) {
    self.owner = owner
    self.prompt = prompt
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.adapter = adapter
    self.constraint = constraint
  }
}

/// Why a text ended.
public enum FinishReason: String, Sendable, Codable {
  /// A stop token came.
  case stop
  /// The text is all that its constraint allows.
  case complete
  /// `maxTokens` were generated.
  case length
  /// The model's context is full.
  case contextFull
  /// The caller asked to end.
  case cancelled
}

/// The continuation of one request.
public struct GenerationResult: Sendable {
  /// Without those of the prompt and without the stop token.
  public let tokens: [Int32]
  public let finishReason: FinishReason
  /// Tokens of the prompt that an earlier request of its owner had computed.
  public let reusedTokens: Int
  /// From the request's arrival until its first token.
  public let prefillSeconds: Double
  /// From then until its last token.
  public let decodeSeconds: Double

  /// Of a request that never began.
  static let none = GenerationResult(
    tokens: [], finishReason: .cancelled, reusedTokens: 0, prefillSeconds: 0, decodeSeconds: 0)
}

extension LlamaModel {
  /// Continues each prompt, all of them step by step together, each with its own adapter. Blocks the
  /// calling thread.
  ///
  /// `onToken` gets the request's index and each token as it is chosen (stop tokens excluded) and
  /// returns false to end that request; `isCancelled` is asked before every step and ends them all.
  /// Throws the ``InferenceError`` of the first request that cannot be continued.
  public func generate(
    _ requests: [GenerationRequest], prefixes: PrefixCache? = nil, pool: ThreadPool = .shared,
    isCancelled: () -> Bool = { false },
    onToken: (_ request: Int, _ token: Int32) -> Bool = { _, _ in true }
  ) throws(InferenceError) -> [GenerationResult] {
    var results: [GenerationResult] = []
    for result in generateEach(
      requests, prefixes: prefixes, pool: pool, isCancelled: isCancelled, onToken: onToken)
    {
      results.append(try result.get())
    }
    return results
  }

  /// The same, with a result for each request: one that cannot be continued changes nothing in the
  /// others.
  public func generateEach(
    _ requests: [GenerationRequest], prefixes: PrefixCache? = nil, pool: ThreadPool = .shared,
    isCancelled: () -> Bool = { false },
    onToken: (_ request: Int, _ token: Int32) -> Bool = { _, _ in true }
  ) -> [Result<GenerationResult, InferenceError>] {
    let batch = GenerationBatch(model: self, prefixes: prefixes, pool: pool)
    var results = [Result<GenerationResult, InferenceError>](
      repeating: .success(.none), count: requests.count)
    /// By the batch's numbers.
    var taken: [Int] = []
    for (index, request) in requests.enumerated() {
      do throws(InferenceError) {
        _ = try batch.add(request)
        taken.append(index)
      } catch {
        results[index] = .failure(error)
      }
    }
    while !batch.isEmpty {
      if isCancelled() {
        for (number, index) in taken.enumerated() {
          if let result = batch.cancel(number) { results[index] = .success(result) }
        }
        break
      }
      for progress in batch.step() {
        let index = taken[progress.request]
        if let result = progress.result { results[index] = result }
        guard let token = progress.token else { continue }
        // It may have ended by itself with this token.
        if !onToken(index, token), let result = batch.cancel(progress.request) {
          results[index] = .success(result)
        }
      }
    }
    return results
  }
}
