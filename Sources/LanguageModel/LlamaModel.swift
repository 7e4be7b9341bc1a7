// A llama-architecture model whose weights stay quantised in memory.

import Crypto
import Foundation
import LinearAlgebra
import Synchronization

/// One transformer layer's weights.
public struct LlamaLayer: Sendable {
  /// The weight of the RMSNorm before attention.
  public let attentionNorm: [Float]
  /// The weight of the RMSNorm before the feed-forward part.
  public let feedForwardNorm: [Float]
  private let projections: [QuantizedMatrix]

  /// The weight matrix, [output width × input width], rows in the Hugging Face order.
  public subscript(projection: Projection) -> QuantizedMatrix { projections[projection.index] }

  init(_ file: GGUFFile, number: Int, configuration: LlamaConfiguration) throws(GGUFError) {
    let prefix = "blk.\(number)."
    attentionNorm = try file.vector(prefix + "attn_norm.weight", count: configuration.width)
    feedForwardNorm = try file.vector(prefix + "ffn_norm.weight", count: configuration.width)
    var projections: [QuantizedMatrix] = []
    for projection in Projection.allCases {
      let matrix = try file.matrix(
        prefix + projection.ggufName + ".weight", rows: projection.outputWidth(in: configuration),
        columns: projection.inputWidth(in: configuration))
      switch projection {
      case .query, .key:
        projections.append(
          matrix.reordered(
            Self.halfSplitOrder(rows: matrix.rows, headWidth: configuration.headWidth)))
      default: projections.append(matrix)
      }
    }
    self.projections = projections
  }

  private init(attentionNorm: [Float], feedForwardNorm: [Float], projections: [QuantizedMatrix]) {
    self.attentionNorm = attentionNorm
    self.feedForwardNorm = feedForwardNorm
    self.projections = projections
  }

  /// The layer with other matrices for some projections.
  func replacing(_ changed: [Projection: QuantizedMatrix]) -> LlamaLayer {
    LlamaLayer(
      attentionNorm: attentionNorm, feedForwardNorm: feedForwardNorm,
      projections: Projection.allCases.map { changed[$0] ?? self[$0] })
  }

  /// GGUF stores the query and key rows of each head for rotary pairs (2i, 2i + 1); Hugging Face,
  /// and with it every PEFT adapter, pairs (i, i + headWidth / 2). Row j · half + i of a head here
  /// is row 2i + j there.
  static func halfSplitOrder(rows: Int, headWidth: Int) -> [Int] {
    let half = headWidth / 2
    return (0..<rows).map { row in
      let (head, inside) = row.quotientAndRemainder(dividingBy: headWidth)
      return head * headWidth + 2 * (inside % half) + inside / half
    }
  }
}

/// A base model, ready for any number of threads at once: nothing in it changes.
public final class LlamaModel: Sendable {
  public let path: String
  public let configuration: LlamaConfiguration
  public let tokenizer: Tokenizer
  /// [vocabulary × width]
  public let tokenEmbedding: QuantizedMatrix
  /// [vocabulary × width]; the embedding itself where the file has no output matrix of its own.
  public let output: QuantizedMatrix
  public let outputNorm: [Float]
  public let layers: [LlamaLayer]
  private let file: GGUFFile
  private let knownFingerprint = Mutex<String?>(nil)
  /// How products with quantised weights are computed.
  public let precision: ProductPrecision
  private let packed = Mutex<InferenceWeights?>(nil)
  private let transposed = Mutex<GradientWeights?>(nil)

  /// Opens a GGUF file. Throws ``GGUFError``.
  public static func load(
    path: String, precision: ProductPrecision = .int8
  ) throws(GGUFError) -> LlamaModel {
    try LlamaModel(file: GGUFFile(path: path), precision: precision)
  }

  private init(file: GGUFFile, precision: ProductPrecision) throws(GGUFError) {
    self.precision = precision
    let configuration = try LlamaConfiguration(file)
    var known: Set<String> = ["token_embd.weight", "output_norm.weight", "output.weight"]
    for number in 0..<configuration.layers {
      known.formUnion(
        (Projection.allCases.map(\.ggufName) + ["attn_norm", "ffn_norm"]).map {
          "blk.\(number).\($0).weight"
        })
    }
    if let stranger = file.tensors.first(where: { !known.contains($0.name) }) {
      throw file.error(.unexpectedTensor(stranger.name))
    }
    var layers: [LlamaLayer] = []
    for number in 0..<configuration.layers {
      layers.append(try LlamaLayer(file, number: number, configuration: configuration))
    }
    tokenEmbedding = try file.matrix(
      "token_embd.weight", rows: configuration.vocabulary, columns: configuration.width)
    output =
      file.tensor("output.weight") == nil
      ? tokenEmbedding
      : try file.matrix(
        "output.weight", rows: configuration.vocabulary, columns: configuration.width)
    outputNorm = try file.vector("output_norm.weight", count: configuration.width)
    tokenizer = try Tokenizer(file, vocabulary: configuration.vocabulary)
    self.layers = layers
    self.configuration = configuration
    self.file = file
    path = file.path
  }

  /// The matrices that rows are multiplied with. Made on first use, so that a model which is only
  /// trained on is not packed; about 0.2 s per 100 million weights and thread.
  package var inferenceWeights: InferenceWeights {
    packed.withLock { known in
      if let known { return known }
      let weights = InferenceWeights(self, precision: precision)
      known = weights
      return weights
    }
  }

  /// The matrices for a backward pass, made on first use and kept for the next training; nil where
  /// products are to be exact, or where 8-bit products are no faster than f32 ones.
  package var gradientWeights: GradientWeights? {
    guard precision == .int8, [.vnni, .armDot].contains(Int8Level.best) else { return nil }
    return transposed.withLock { known in
      if let known { return known }
      let weights = GradientWeights(self)
      known = weights
      return weights
    }
  }

  /// A model with other layers, known by another fingerprint.
  init(_ model: LlamaModel, layers: [LlamaLayer], fingerprint: String) {
    path = model.path
    precision = model.precision
    configuration = model.configuration
    tokenizer = model.tokenizer
    tokenEmbedding = model.tokenEmbedding
    output = model.output
    outputNorm = model.outputNorm
    self.layers = layers
    file = model.file
    knownFingerprint.withLock { $0 = fingerprint }
  }

  /// SHA-256 of the file, in hexadecimal. Computed on first use (about 0.1 s per 100 MB) and kept.
  public var fingerprint: String {
    knownFingerprint.withLock { known in
      if let known { return known }
      var hash = SHA256()
      hash.update(bufferPointer: file.file.bytes)
      let text = hash.finalize().map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
      }.joined()
      known = text
      return text
    }
  }

  /// Weights as they lie in memory.
  public var weightBytes: Int {
    let own = output.rows == tokenEmbedding.rows && file.tensor("output.weight") == nil
    return tokenEmbedding.byteCount + (own ? 0 : output.byteCount)
      + layers.reduce(0) { sum, layer in
        sum + Projection.allCases.reduce(0) { $0 + layer[$1].byteCount }
      }
  }
}
