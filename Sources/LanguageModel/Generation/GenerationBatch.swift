// Continuous batching: requests of several users join and leave between steps.

import Foundation
import LinearAlgebra

/// Requests under way on one model, advanced together. Every step computes one more token of each
/// request that is past its prompt, and fills up with pieces of the prompts still to come, so that a
/// long prompt holds up nobody for longer than a step. Used by one thread at a time.
public final class GenerationBatch {
  /// What a step brought for one request.
  public struct Progress: Sendable {
    /// The number that ``add(_:)`` gave.
    public let request: Int
    /// The next token of the text; nil where the request ended without one.
    public let token: Int32?
    /// The whole, once the request has ended; or why it could not go on.
    public let result: Result<GenerationResult, InferenceError>?
  }

  /// Of all requests of the batch; their adapters may differ.
  public let model: LlamaModel
  private let prefixes: PrefixCache?
  private let rowsPerStep: Int
  private let pool: ThreadPool
  private var sequences: [Sequence] = []
  private var nextNumber = 0
  private let clock = ContinuousClock()

  /// - Parameters:
  ///   - prefixes: where beginnings of prompts are kept for later requests.
  ///   - rowsPerStep: rows of one step at most, as long as not more requests are decoding.
  public init(
    model: LlamaModel, prefixes: PrefixCache? = nil, rowsPerStep: Int = 256,
    pool: ThreadPool = .shared
  ) {
    self.model = model
    self.prefixes = prefixes
    self.rowsPerStep = max(rowsPerStep, 1)
    self.pool = pool
  }

  /// Whether no request is under way.
  public var isEmpty: Bool { sequences.isEmpty }

  /// The number of requests under way.
  public var count: Int { sequences.count }

  /// Takes a request in and returns its number, counted from 0. Throws ``InferenceError`` for one
  /// that cannot be computed; the others are not touched.
  public func add(_ request: GenerationRequest) throws(InferenceError) -> Int {
    try request.sampling.check()
    let constraint = try request.constraint.map { constraint throws(InferenceError) in
      try ConstraintState(
        constraint, tokenizer: model.tokenizer, stopTokens: request.stopTokens)
    }
    let (cache, reused) =
      prefixes?.cache(
        for: request.prompt, adapter: request.adapter, owner: request.owner, of: model)
      ?? (KVCache(for: model), 0)
    let known = max(cache.count - (request.adapter?.virtualTokenCount ?? 0), 0)
    let chunk = Chunk(
      tokens: Array(request.prompt[known...]), cache: cache, adapter: request.adapter)
    try model.check([chunk])
    defer { nextNumber += 1 }
    sequences.append(
      Sequence(
        number: nextNumber, request: request, cache: cache,
        sampler: Sampler(request.sampling), constraint: constraint, next: chunk.tokens[...],
        reusedTokens: reused, added: clock.now))
    return nextNumber
  }

  /// Ends a request before its time.
  public func cancel(_ number: Int) -> GenerationResult? {
    guard let index = sequences.firstIndex(where: { $0.number == number }) else { return nil }
    return sequences.remove(at: index).result(.cancelled, at: clock.now)
  }

  /// One pass over all requests. Blocks the calling thread. A request whose logits are no numbers,
  /// because its adapter's weights are damaged, ends with that error: rows meet each other nowhere in a
  /// pass, so the others' numbers are what they are without it.
  public func step() -> [Progress] {
    var progress: [Progress] = []
    // A request for nothing is done before it begins.
    sequences.removeAll { sequence in
      guard sequence.request.maxTokens <= 0 || sequence.constraint?.isComplete == true else {
        return false
      }
      progress.append(sequence.ended(sequence.constraint == nil ? .length : .stop, clock.now))
      return true
    }
    let pieces = plan()
    guard !pieces.isEmpty else { return progress }
    let logits: [Logits]
    do throws(InferenceError) {
      logits = try model.forward(
        pieces.map { piece in
          let sequence = sequences[piece.sequence]
          return Chunk(
            tokens: Array(sequence.next.prefix(piece.count)), cache: sequence.cache,
            adapter: sequence.request.adapter,
            logits: piece.count == sequence.next.count ? .last : .none)
        }, pool: pool)
    } catch {
      // Each was checked when it came in, so this is the end of the batch, not of one request.
      defer { sequences = [] }
      return progress
        + sequences.map { Progress(request: $0.number, token: nil, result: .failure(error)) }
    }
    let now = clock.now
    var ended: Set<Int> = []
    for (piece, rows) in zip(pieces, logits) {
      let index = piece.sequence
      sequences[index].next.removeFirst(piece.count)
      guard rows.rows > 0 else { continue }
      let token: Int32
      do throws(InferenceError) {
        token = try sequences[index].choose(rows)
      } catch {
        ended.insert(index)
        progress.append(
          Progress(request: sequences[index].number, token: nil, result: .failure(error)))
        continue
      }
      if sequences[index].firstToken == nil {
        sequences[index].firstToken = now
        let request = sequences[index].request
        prefixes?.keep(
          sequences[index].cache, prompt: request.prompt, adapter: request.adapter,
          owner: request.owner, of: model)
      }
      let reason = sequences[index].take(token, contextLength: model.configuration.contextLength)
      if let reason {
        ended.insert(index)
        progress.append(sequences[index].ended(reason, now, last: reason == .stop ? nil : token))
      } else {
        progress.append(
          Progress(request: sequences[index].number, token: token, result: nil))
      }
    }
    for index in ended.sorted(by: >) { sequences.remove(at: index) }
    return progress
  }

  private struct Piece {
    let sequence: Int
    let count: Int
  }

  /// The rows of the next step: those that decode, then prompts in the order they came in.
  private func plan() -> [Piece] {
    var pieces: [Piece] = []
    for index in sequences.indices where sequences[index].firstToken != nil {
      pieces.append(Piece(sequence: index, count: 1))
    }
    var room = rowsPerStep - pieces.count
    for index in sequences.indices where sequences[index].firstToken == nil {
      guard room > 0 || pieces.isEmpty else { break }
      let count = min(sequences[index].next.count, max(room, 1))
      pieces.append(Piece(sequence: index, count: count))
      room -= count
    }
    return pieces
  }

  /// A request under way.
  private struct Sequence {
    let number: Int
    let request: GenerationRequest
    let cache: KVCache
    var sampler: Sampler
    var constraint: ConstraintState?
    /// What is still to be computed: the prompt's rest, then the last token.
    var next: ArraySlice<Int32>
    let reusedTokens: Int
    let added: ContinuousClock.Instant
    var firstToken: ContinuousClock.Instant?
    var tokens: [Int32] = []

    mutating func choose(_ logits: Logits) throws(InferenceError) -> Int32 {
      if let allowed = constraint?.allowed {
        return try sampler.choose(logits, row: 0, among: allowed)
      }
      return try sampler.choose(logits, row: 0)
    }

    /// Takes a chosen token; says why the request ends with it, if it does. A stop token is no part
    /// of the text.
    mutating func take(_ token: Int32, contextLength: Int) -> FinishReason? {
      if request.stopTokens.contains(token) { return .stop }
      tokens.append(token)
      next = [token]
      constraint?.advance(token)
      if constraint?.isComplete == true { return .complete }
      if tokens.count >= request.maxTokens { return .length }
      return cache.count >= contextLength ? .contextFull : nil
    }

    func ended(
      _ reason: FinishReason, _ now: ContinuousClock.Instant, last token: Int32? = nil
    ) -> Progress {
      Progress(request: number, token: token, result: .success(result(reason, at: now)))
    }

    func result(_ reason: FinishReason, at now: ContinuousClock.Instant) -> GenerationResult {
      GenerationResult(
        tokens: tokens, finishReason: reason, reusedTokens: reusedTokens,
        prefillSeconds: ((firstToken ?? now) - added) / .seconds(1),
        decodeSeconds: (now - (firstToken ?? now)) / .seconds(1))
    }
  }
}
