// The model's forward computation over new tokens of several sequences.

import LinearAlgebra

/// New tokens of one sequence.
public struct Chunk {
  /// Which positions' logits are wanted.
  public enum LogitsWanted: Sendable {
    case none
    case last
    case all
  }

  /// The next tokens after those in the cache; at least one. Where the cache is empty the adapter's
  /// virtual tokens (prompt tuning) go before them and take positions of their own; they give no
  /// logits.
  public var tokens: [Int32]
  /// The sequence so far; grows by the tokens.
  public var cache: KVCache
  /// The user's adapter, nil for the base model.
  public var adapter: Adapter?
  /// Of `tokens`, without virtual tokens.
  public var logits: LogitsWanted

  public init(
    tokens: [Int32], cache: KVCache, adapter: Adapter? = nil, logits: LogitsWanted = .last
  ) {
    self.tokens = tokens
    self.cache = cache
    self.adapter = adapter
    self.logits = logits
  }

  /// How many of the adapter's virtual tokens go before this chunk's: all, at a sequence's start.
  var virtualTokensToCome: Int { cache.count == 0 ? adapter?.virtualTokenCount ?? 0 : 0 }

  /// The chunk with the adapter's virtual tokens among its tokens, virtual token i as -1 - i.
  func withVirtualTokens() -> Chunk {
    let count = virtualTokensToCome
    guard count > 0 else { return self }
    cache.virtualTokens = count
    var chunk = self
    chunk.tokens.insert(contentsOf: (0..<count).map { -1 - Int32($0) }, at: 0)
    return chunk
  }

  static func virtualTokenIndex(_ token: Int32) -> Int { -1 - Int(token) }
}

/// The logits of a chunk's wanted positions, [rows × vocabulary] row-major.
public struct Logits: Sendable {
  public let rows: Int
  public let vocabulary: Int
  private let values: FloatBuffer
  private let offset: Int

  init(rows: Int, vocabulary: Int, values: FloatBuffer, offset: Int) {
    self.rows = rows
    self.vocabulary = vocabulary
    self.values = values
    self.offset = offset
  }

  /// Calls `body` with a wanted position's logits in place.
  func withRow<Result, Failure: Error>(
    _ row: Int, _ body: (UnsafeBufferPointer<Float>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(row >= 0 && row < rows)
    defer { withExtendedLifetime(values) {} }
    return try body(
      UnsafeBufferPointer(start: values.pointer + offset + row * vocabulary, count: vocabulary))
  }

  /// A copy of a wanted position's logits.
  public subscript(row: Int) -> [Float] {
    precondition(row >= 0 && row < rows)
    return withExtendedLifetime(values) {
      Array(
        UnsafeBufferPointer(
          start: values.pointer + offset + row * vocabulary, count: vocabulary))
    }
  }
}

extension LlamaModel {
  /// The most rows of one pass; longer input goes through in several, so that scratch memory stays
  /// bounded.
  static var rowsPerPass: Int { 256 }

  /// Computes new tokens of one or several sequences in common passes and returns one ``Logits`` per
  /// chunk. Blocks the calling thread. Throws ``InferenceError``, then without touching any cache.
  public func forward(
    _ chunks: [Chunk], pool: ThreadPool = .shared
  ) throws(InferenceError) -> [Logits] {
    let (hidden, counts) = try hiddenRows(chunks, pool: pool)
    let rows = counts.reduce(0, +)
    let values = FloatBuffer(uninitialized: rows * configuration.vocabulary)
    if rows > 0 {
      ComputeGate.shared.foreground {
        Product.compute(
          hidden.pointer, count: rows, columns: configuration.width,
          [(inferenceWeights.output, values.pointer)], pool: pool)
      }
    }
    var offset = 0
    return counts.map { count in
      defer { offset += count * configuration.vocabulary }
      return Logits(
        rows: count, vocabulary: configuration.vocabulary, values: values, offset: offset)
    }
  }

  /// The normalised last hidden states of the wanted positions, [sum of counts × width], and how
  /// many each chunk has.
  func hiddenRows(
    _ chunks: [Chunk], pool: ThreadPool
  ) throws(InferenceError) -> (rows: FloatBuffer, counts: [Int]) {
    try check(chunks)
    let counts = chunks.map { chunk in
      switch chunk.logits {
      case .none: 0
      case .last: 1
      case .all: chunk.tokens.count
      }
    }
    let chunks = chunks.map { $0.withVirtualTokens() }
    let width = configuration.width
    let hidden = FloatBuffer(uninitialized: counts.reduce(0, +) * width)
    var written = 0
    var done = [Int](repeating: 0, count: chunks.count)
    var first = 0
    while first < chunks.count {
      // Whole chunks and the beginning of the next, as many rows as a pass takes.
      var segments: [Segment] = []
      var rows = 0
      var index = first
      while index < chunks.count && rows < Self.rowsPerPass {
        let chunk = chunks[index]
        let take = min(chunk.tokens.count - done[index], Self.rowsPerPass - rows)
        let tokens = chunk.tokens[done[index]..<done[index] + take]
        done[index] += take
        let wanted: Range<Int> =
          switch chunk.logits {
          case .none: 0..<0
          case .last: (done[index] == chunk.tokens.count ? take - 1 : take)..<take
          case .all: tokens.prefix { $0 < 0 }.count..<take
          }
        segments.append(
          Segment(
            tokens: tokens, cache: chunk.cache, adapter: chunk.adapter, row: rows,
            position: chunk.cache.count, wanted: wanted))
        rows += take
        if done[index] < chunk.tokens.count { break }
        index += 1
      }
      let pass = ForwardPass(model: self, segments: segments, pool: pool)
      ComputeGate.shared.foreground { pass.run() }
      for row in 0..<segments.reduce(0, { $0 + $1.wanted.count }) {
        Elementwise.rmsNorm(
          pass.stream.pointer + row * width, weight: outputNorm,
          into: hidden.pointer + written * width, count: width,
          epsilon: configuration.rmsEpsilon)
        written += 1
      }
      first = index
    }
    return (hidden, counts)
  }

  /// Throws ``InferenceError`` for chunks that cannot be computed.
  func check(_ chunks: [Chunk]) throws(InferenceError) {
    var caches: Set<ObjectIdentifier> = []
    for chunk in chunks {
      guard !chunk.tokens.isEmpty else { throw .noTokens }
      if let token = chunk.tokens.first(where: { $0 < 0 || $0 >= configuration.vocabulary }) {
        throw .tokenOutsideVocabulary(token: token, vocabulary: configuration.vocabulary)
      }
      guard chunk.cache.layout == KVLayout(configuration, precision: precision) else {
        throw .cacheOfAnotherModel
      }
      guard caches.insert(ObjectIdentifier(chunk.cache)).inserted else { throw .cacheUsedTwice }
      let positions = chunk.cache.count + chunk.virtualTokensToCome + chunk.tokens.count
      guard positions <= configuration.contextLength else {
        throw .contextExceeded(positions: positions, contextLength: configuration.contextLength)
      }
      if let adapter = chunk.adapter, !adapter.fits(configuration) {
        throw .adapterOfAnotherModel(
          adapterLayers: adapter.layerCount, modelLayers: configuration.layers)
      }
      let virtualTokens = chunk.adapter?.virtualTokenCount ?? 0
      guard chunk.cache.count == 0 || chunk.cache.virtualTokens == virtualTokens else {
        throw .cacheOfAnotherAdapter(
          cacheVirtualTokens: chunk.cache.virtualTokens, adapterVirtualTokens: virtualTokens)
      }
    }
  }
}
