// A model as Hugging Face's transformers save it: config.json, safetensors files, tokenizer.json.

import Foundation
import JSON
import LinearAlgebra

/// An opened model folder. The weights stay in their files.
struct HuggingFaceFolder {
  let path: String
  let configuration: LlamaConfiguration
  let tokenizer: Tokenizer
  let weights: FolderWeights
  let tiesOutput: Bool
  /// config.json, the weight files and tokenizer.json in order of name.
  let files: [MappedFile]

  /// Reads and checks everything but the numbers of the weights. Throws ``ModelFileError``.
  init(path: String) throws(ModelFileError) {
    let url = URL(fileURLWithPath: path)
    func file(_ name: String) -> String { url.appendingPathComponent(name).path }
    func object(_ name: String) throws(ModelFileError) -> JSONObject? {
      FileManager.default.fileExists(atPath: file(name))
        ? try JSONObject(path: file(name)) : nil
    }
    let config = try JSONObject(path: file("config.json"))
    let configuration = try LlamaConfiguration(config)
    tiesOutput = try config.bool("tie_word_embeddings") ?? false
    let opened = try Self.open(url)
    weights = try FolderWeights(opened, configuration: configuration)
    // Before anything is made for so many tokens as config.json says.
    _ = try weights.matrix(
      .embedding, rows: configuration.vocabulary, columns: configuration.width)

    guard let json = try object("tokenizer.json") else {
      throw ModelFileError(
        file: file("tokenizer.json"),
        problem: "does not exist; save the tokenizer with transformers as a fast one")
    }
    let parts = try TokenizerJSON(json, vocabulary: configuration.vocabulary)
    var settings = try Tokenizer.Settings(
      parts, config: config, tokenizer: object("tokenizer_config.json"),
      generation: object("generation_config.json"), vocabulary: configuration.vocabulary)
    if settings.chatTemplate == nil {
      settings.chatTemplate = try? String(
        contentsOf: url.appendingPathComponent("chat_template.jinja"), encoding: .utf8)
    }
    tokenizer = try parts.tokenizer(settings)

    var files = opened.compactMap(\.mapped)
    for name in ["config.json", "tokenizer.json"] {
      do throws(GGUFError) {
        files.append(try MappedFile(path: file(name)))
      } catch {
        throw ModelFileError(file: file(name), problem: error.reason)
      }
    }
    self.files = files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    self.configuration = configuration
    self.path = path
  }

  /// model.safetensors, or the files that model.safetensors.index.json names.
  private static func open(_ url: URL) throws(ModelFileError) -> [SafetensorsFile] {
    func open(_ name: String) throws(ModelFileError) -> SafetensorsFile {
      do {
        return try SafetensorsFile(path: url.appendingPathComponent(name).path)
      } catch {
        let known = error as? SafetensorsError
        throw ModelFileError(
          file: known?.file ?? name, problem: "cannot be used: \(known?.problem ?? "\(error)")")
      }
    }
    let index = url.appendingPathComponent(indexName).path
    guard FileManager.default.fileExists(atPath: index) else {
      return [try open("model.safetensors")]
    }
    var files: [SafetensorsFile] = []
    for name in try weightFiles(index: index) { files.append(try open(name)) }
    return files
  }

  static let indexName = "model.safetensors.index.json"

  /// The weight files that an index names, each once and in order of name: plain names in the folder.
  static func weightFiles(index path: String) throws(ModelFileError) -> [String] {
    let index = try JSONObject(path: path)
    guard let map = try index.object("weight_map") else {
      throw ModelFileError(file: path, problem: "lacks the key \"weight_map\"")
    }
    var names: Set<String> = []
    try map.forEachMember { key, value throws(ModelFileError) in
      guard case .string(let name) = value, name.hasSuffix(".safetensors"),
        !name.hasPrefix("."), !name.contains("/"), !name.utf8.contains(0)
      else { throw map.bad(key, value, "the name of a .safetensors file in the folder") }
      names.insert(name)
    }
    guard names.count <= 1024 else {
      throw ModelFileError(file: path, problem: "names \(names.count) files; at most 1024")
    }
    return names.sorted()
  }
}

/// The tensors of a folder's safetensors files.
struct FolderWeights: WeightSource {
  private var places: [String: SafetensorsFile] = [:]
  private let folder: String

  /// Tensors that old files hold and nobody reads.
  private static func isIgnored(_ name: String) -> Bool {
    name.hasSuffix(".rotary_emb.inv_freq")
  }

  init(_ files: [SafetensorsFile], configuration: LlamaConfiguration) throws(ModelFileError) {
    folder = files.first.map { $0.name } ?? ""
    let known = Set(ModelTensor.all(configuration).map(\.huggingFaceName))
    for file in files {
      for name in file.tensors.keys where !Self.isIgnored(name) {
        guard known.contains(name) else {
          throw ModelFileError(
            file: file.name,
            problem:
              "has a tensor \"\(name)\" that \(configuration.architecture.rawValue) as known "
              + "here does not use")
        }
        guard places.updateValue(file, forKey: name) == nil else {
          throw ModelFileError(
            file: file.name, problem: "has the tensor \"\(name)\", which another file has too")
        }
      }
    }
  }

  func has(_ tensor: ModelTensor) -> Bool { places[tensor.huggingFaceName] != nil }

  func matrix(
    _ tensor: ModelTensor, rows: Int, columns: Int
  ) throws(ModelFileError) -> QuantizedMatrix {
    try matrix(tensor, shape: [rows, columns], rows: rows, columns: columns)
  }

  func vector(_ tensor: ModelTensor, count: Int) throws(ModelFileError) -> [Float] {
    let row = try matrix(tensor, shape: [count], rows: 1, columns: count)
    var values = [Float](repeating: 0, count: count)
    values.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { row.expand(rows: 0..<1, into: base) }
    }
    return values
  }

  private func matrix(
    _ tensor: ModelTensor, shape: [Int], rows: Int, columns: Int
  ) throws(ModelFileError) -> QuantizedMatrix {
    let name = tensor.huggingFaceName
    guard let file = places[name], let found = file.tensors[name] else {
      throw ModelFileError(file: folder, problem: "lacks the tensor \"\(name)\"")
    }
    guard found.shape == shape else {
      throw ModelFileError(
        file: file.name,
        problem: "has the tensor \"\(name)\" with shape \(found.shape); expected \(shape)")
    }
    let type: WeightType
    switch found.type {
    case .float32: type = .f32
    case .float16: type = .f16
    case .bfloat16: type = .bf16
    default:
      throw ModelFileError(
        file: file.name,
        problem: "stores the tensor \"\(name)\" as \(found.type.rawValue); these can be read: F32, "
          + "F16, BF16")
    }
    guard let mapped = file.mapped else {
      throw ModelFileError(file: file.name, problem: "is not mapped into memory")
    }
    let bytes = UnsafeRawBufferPointer(rebasing: mapped.bytes[file.bytes(of: found)])
    let matrix = QuantizedMatrix(
      type: type, rows: rows, columns: columns, bytes: bytes, owner: mapped)
    // The header's length decides where numbers lie; kernels want them aligned to their size.
    let isAligned = Int(bitPattern: bytes.baseAddress) % type.blockBytes == 0
    return isAligned ? matrix : matrix.reordered(Array(0..<rows))
  }
}

extension Tokenizer.Settings {
  /// Special tokens as tokenizer_config.json, generation_config.json and config.json name them, in
  /// this order.
  fileprivate init(
    _ parts: TokenizerJSON, config: JSONObject, tokenizer: JSONObject?, generation: JSONObject?,
    vocabulary: Int
  ) throws(ModelFileError) {
    func token(_ key: String) throws(ModelFileError) -> Int32? {
      guard let tokenizer, let value = tokenizer.value(key) else { return nil }
      var text: String?
      switch value {
      case .string(let name): text = name
      case .object: text = try tokenizer.object(key)?.string("content")
      default: break
      }
      guard let text, let id = parts.id(text) else {
        throw tokenizer.bad(key, value, "a token of the vocabulary")
      }
      return id
    }
    /// One id or several.
    func ids(_ object: JSONObject?, _ key: String) throws(ModelFileError) -> [Int32] {
      guard let object, let value = object.value(key) else { return [] }
      var values = [value]
      if case .array(let several) = value { values = several }
      var ids: [Int32] = []
      for value in values {
        guard case .number(let number) = value, let id = Int32(exactly: number),
          (0..<vocabulary).contains(Int(id))
        else { throw object.bad(key, value, "token ids below \(vocabulary)") }
        ids.append(id)
      }
      return ids
    }
    let generated = try ids(generation, "eos_token_id")
    let configured = try ids(config, "eos_token_id")
    let (named, begin) = (try token("eos_token"), try token("bos_token"))
    let configuredBegin = try ids(config, "bos_token_id").first
    guard let eos = named ?? generated.first ?? configured.first else {
      throw ModelFileError(
        file: config.file,
        problem:
          "names no \"eos_token_id\", nor do tokenizer_config.json and generation_config.json "
          + "name an end-of-text token")
    }
    self.init(
      bos: begin ?? configuredBegin, eos: eos, addsBOS: false,
      stopTokens: Set(generated + configured),
      chatTemplate: tokenizer.flatMap { file in
        file.value("chat_template")?.string
      })
  }
}
