// A llama-like model whose weights stay in the file as they are.

import Cryptography
import Foundation
import LinearAlgebra
import Synchronization

/// One transformer layer's weights.
public struct LlamaLayer: Sendable {
  /// The weight of the RMSNorm before attention.
  public let attentionNorm: [Float]
  /// The weight of the RMSNorm before the feed-forward part.
  public let feedForwardNorm: [Float]
  /// The weight of the RMSNorm of each query head before the rotation [headWidth]; nil where the
  /// architecture has none.
  public let queryNorm: [Float]?
  /// The same for each key head.
  public let keyNorm: [Float]?
  private let projections: [QuantizedMatrix]
  private let biases: [[Float]?]

  /// The weight matrix, [output width × input width], rows in the Hugging Face order.
  public subscript(projection: Projection) -> QuantizedMatrix { projections[projection.index] }

  /// What is added to the projection's output [output width], nil where the architecture has none.
  public func bias(_ projection: Projection) -> [Float]? { biases[projection.index] }

  init<Source: WeightSource>(
    _ source: Source, number: Int, configuration: LlamaConfiguration
  ) throws(Source.Failure) {
    attentionNorm = try source.vector(
      .attentionNorm(layer: number), count: configuration.width)
    feedForwardNorm = try source.vector(
      .feedForwardNorm(layer: number), count: configuration.width)
    if configuration.architecture == .qwen3 {
      queryNorm = try source.vector(.queryNorm(layer: number), count: configuration.headWidth)
      keyNorm = try source.vector(.keyNorm(layer: number), count: configuration.headWidth)
    } else {
      queryNorm = nil
      keyNorm = nil
    }
    let biased = ModelTensor.biased(configuration.architecture)
    var projections: [QuantizedMatrix] = []
    var biases: [[Float]?] = []
    for projection in Projection.allCases {
      let rows = projection.outputWidth(in: configuration)
      projections.append(
        try source.matrix(
          .weight(projection, layer: number), rows: rows,
          columns: projection.inputWidth(in: configuration)))
      biases.append(
        biased.contains(projection)
          ? try source.vector(.bias(projection, layer: number), count: rows) : nil)
    }
    self.projections = projections
    self.biases = biases
  }

  private init(_ other: LlamaLayer, projections: [QuantizedMatrix]) {
    attentionNorm = other.attentionNorm
    feedForwardNorm = other.feedForwardNorm
    queryNorm = other.queryNorm
    keyNorm = other.keyNorm
    biases = other.biases
    self.projections = projections
  }

  /// The layer with other matrices for some projections.
  func replacing(_ changed: [Projection: QuantizedMatrix]) -> LlamaLayer {
    LlamaLayer(self, projections: Projection.allCases.map { changed[$0] ?? self[$0] })
  }
}

/// A base model, ready for any number of threads at once: nothing in it changes.
public final class LlamaModel: Sendable {
  /// The GGUF file or the Hugging Face folder that was opened.
  public let path: String
  public let configuration: LlamaConfiguration
  public let tokenizer: Tokenizer
  /// [vocabulary × width]
  public let tokenEmbedding: QuantizedMatrix
  /// [vocabulary × width]; the embedding itself where the file has no output matrix of its own.
  public let output: QuantizedMatrix
  /// [width], the weights of the RMSNorm before ``output``.
  public let outputNorm: [Float]
  /// From the embedding upwards.
  public let layers: [LlamaLayer]
  /// Whether ``output`` is the embedding.
  public let tiesOutput: Bool
  private let files: [MappedFile]
  private let knownFingerprint = Mutex<String?>(nil)
  /// How products with quantised weights are computed.
  public let precision: ProductPrecision
  private let packed = Mutex<InferenceWeights?>(nil)
  private let transposed = Mutex<GradientWeights?>(nil)

  /// Opens a GGUF file or a Hugging Face folder. Throws ``GGUFError`` or ``ModelFileError``.
  public static func load(
    path: String, precision: ProductPrecision = .int8
  ) throws -> LlamaModel {
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
      return try LlamaModel(HuggingFaceFolder(path: path), precision: precision)
    }
    return try LlamaModel(GGUFFile(path: path), precision: precision)
  }

  convenience init(
    _ file: GGUFFile, precision: ProductPrecision = .int8
  ) throws(GGUFError) {
    let configuration = try LlamaConfiguration(file)
    let known = Set(ModelTensor.all(configuration).map(\.ggufName))
    let stranger = file.tensors.first {
      !known.contains($0.name) && $0.name != LlamaConfiguration.ropeDivisors
    }
    if let stranger { throw file.error(.unexpectedTensor(stranger.name)) }
    let source = GGUFWeights(file: file, configuration: configuration)
    try self.init(
      source, path: file.path, files: file.files, configuration: configuration,
      tokenizer: Tokenizer(file, vocabulary: configuration.vocabulary),
      tiesOutput: !source.has(.output), precision: precision)
  }

  convenience init(
    _ folder: HuggingFaceFolder, precision: ProductPrecision = .int8
  ) throws(ModelFileError) {
    let configuration = folder.configuration
    try self.init(
      folder.weights, path: folder.path, files: folder.files, configuration: configuration,
      tokenizer: folder.tokenizer, tiesOutput: folder.tiesOutput, precision: precision)
  }

  private init<Source: WeightSource>(
    _ source: Source, path: String, files: [MappedFile], configuration: LlamaConfiguration,
    tokenizer: Tokenizer, tiesOutput: Bool, precision: ProductPrecision
  ) throws(Source.Failure) {
    self.precision = precision
    var layers: [LlamaLayer] = []
    for number in 0..<configuration.layers {
      layers.append(try LlamaLayer(source, number: number, configuration: configuration))
    }
    let (rows, columns) = (configuration.vocabulary, configuration.width)
    tokenEmbedding = try source.matrix(.embedding, rows: rows, columns: columns)
    output =
      tiesOutput ? tokenEmbedding : try source.matrix(.output, rows: rows, columns: columns)
    outputNorm = try source.vector(.outputNorm, count: columns)
    self.tokenizer = tokenizer
    self.tiesOutput = tiesOutput
    self.layers = layers
    self.configuration = configuration
    self.files = files
    self.path = path
  }

  /// The matrices that rows are multiplied with. Made on first use, so that opening a file stays
  /// quick; about 0.2 s per 100 million weights and thread.
  package var inferenceWeights: InferenceWeights {
    Self.kept(in: packed) { InferenceWeights(self, precision: precision) }
  }

  /// What the lock holds, made on first use.
  private static func kept<Weights: Sendable>(
    in lock: borrowing Mutex<Weights?>, or make: () -> Weights
  ) -> Weights {
    lock.withLock { known in
      if let known { return known }
      let weights = make()
      known = weights
      return weights
    }
  }

  /// Gives the files' pages in memory back; reading them again is slower once, and nothing else.
  func releasePages() { for file in files { file.releasePages() } }

  /// The matrices for a backward pass, made on first use and kept for the next training; nil where
  /// products are to be exact, or where 8-bit products are no faster than f32 ones.
  package var gradientWeights: GradientWeights? {
    guard precision == .int8, [.vnni, .armDot].contains(Int8Level.best) else { return nil }
    return Self.kept(in: transposed) { GradientWeights(self) }
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
    tiesOutput = model.tiesOutput
    self.layers = layers
    files = model.files
    knownFingerprint.withLock { $0 = fingerprint }
  }

  /// Names the model's exact bytes, in hexadecimal. Computed on first use (about 0.1 s per 100 MB)
  /// and kept. Of a GGUF file it is the SHA-256. Of a folder, and of a GGUF model in parts, it is the
  /// SHA-256 of the lines `<SHA-256 of the file>  <its name>` for config.json, tokenizer.json and the
  /// weight files (for the parts), in order of name: what `sha256sum config.json model*.safetensors tokenizer.json | sha256sum` says.
  public var fingerprint: String {
    knownFingerprint.withLock { known in
      if let known { return known }
      let hashes = files.map { file in
        var hash = SHA256()
        hash.update(bufferPointer: file.bytes)
        return hash.finalize().hexadecimal
      }
      var text = hashes[0]
      if files.count > 1 {
        let lines = zip(hashes, files).map { hash, file in
          "\(hash)  \(URL(fileURLWithPath: file.path).lastPathComponent)\n"
        }
        text = SHA256.hash(data: Data(lines.joined().utf8)).hexadecimal
      }
      known = text
      return text
    }
  }

  /// Weights as they lie in memory.
  public var weightBytes: Int {
    tokenEmbedding.byteCount + (tiesOutput ? 0 : output.byteCount)
      + layers.reduce(0) { sum, layer in
        sum + Projection.allCases.reduce(0) { $0 + layer[$1].byteCount }
      }
  }
}
