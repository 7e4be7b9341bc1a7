// A change of the base model by one PEFT method, or by several stacked on each other.

import Foundation
import LinearAlgebra
import Synchronization

/// The two factors of one projection's change: ΔW = scaling · B A. Row-major f32, not to be written
/// once the adapter is in use.
public struct LoRAFactors: Sendable {
  /// [rank × input width]
  public let a: FloatBuffer
  /// [output width × rank]
  public let b: FloatBuffer
  /// [output width], DoRA's norm of each row of W + ΔW; nil for plain LoRA.
  public let magnitude: FloatBuffer?

  /// Shapes as the properties say; nothing is copied or checked here.
  public init(a: FloatBuffer, b: FloatBuffer, magnitude: FloatBuffer? = nil) {
    self.a = a
    self.b = b
    self.magnitude = magnitude
  }
}

/// What one adapter does to one projection: y = outputScale ⊙ (f(inputScale ⊙ x) + scaling · B A x),
/// where f is the projection without this adapter. A part that is nil does nothing.
public struct ProjectionChange: Sendable {
  /// Nil where nothing is added to the product, as for (IA)³.
  public let factors: LoRAFactors?
  /// The width of A x; 0 without factors.
  public let rank: Int
  /// What B A x is multiplied with; 0 without factors.
  public let scaling: Float
  /// [input width], (IA)³ on a feed-forward projection.
  public let inputScale: FloatBuffer?
  /// [output width], (IA)³, or DoRA's magnitude / ‖W + scaling · B A‖ of each row.
  public let outputScale: FloatBuffer?
  /// B as products read it, [rank × output width].
  let bTransposed: FloatBuffer?

  init(
    factors: LoRAFactors? = nil, rank: Int = 0, scaling: Float = 0,
    inputScale: FloatBuffer? = nil, outputScale: FloatBuffer? = nil
  ) {
    self.factors = factors
    self.rank = rank
    self.scaling = scaling
    self.inputScale = inputScale
    self.outputScale = outputScale
    bTransposed = factors.map { factors in
      let out = factors.b.count / rank
      let transposed = FloatBuffer(uninitialized: factors.b.count)
      for row in 0..<out {
        for k in 0..<rank { transposed.pointer[k * out + row] = factors.b.pointer[row * rank + k] }
      }
      return transposed
    }
  }

  /// The memory of its numbers.
  var byteCount: Int {
    [factors?.a, factors?.b, bTransposed, factors?.magnitude, inputScale, outputScale]
      .reduce(0) { $0 + ($1?.count ?? 0) * 4 }
  }
}

/// An immutable change of a llama-architecture model, in the Hugging Face layout. DoRA's belongs to
/// the model whose weights it was made with; the others to every model of the same shape.
public final class Adapter: Sendable {
  /// From the lowest to the uppermost: one for a plain adapter, several for a stack.
  public let methods: [AdapterMethod]
  /// As many as the model's.
  public let layerCount: Int
  /// The width of the model's residual stream.
  public let width: Int
  /// The embeddings that stand before the prompt, [``virtualTokenCount`` × ``width``].
  public let virtualTokens: FloatBuffer?
  /// Another number for every adapter that this process makes: keys and values computed with one
  /// adapter are of no use to another.
  let id = Adapter.nextID.add(1, ordering: .relaxed).newValue
  private static let nextID = Atomic<UInt64>(0)
  /// By layer and `Projection.index`, from the lowest adapter to the uppermost.
  private let table: [[ProjectionChange]]
  /// The same, as the forward pass reads it.
  let changeTable: ChangeTable

  /// How many positions of a sequence the virtual tokens take.
  public var virtualTokenCount: Int { (virtualTokens?.count ?? 0) / width }

  /// The settings of a plain LoRA or DoRA adapter, else nil.
  public var lora: LoRASettings? {
    if methods.count == 1, case .lora(let settings) = methods[0] { settings } else { nil }
  }

  /// What is done to a projection of a layer, from the lowest adapter to the uppermost.
  public func changes(layer: Int, _ projection: Projection) -> [ProjectionChange] {
    table[layer * Projection.allCases.count + projection.index]
  }

  /// What a projection's bias is multiplied with: the scales of (IA)³, which are of whole outputs;
  /// DoRA's are of the weights alone.
  func biasScales(layer: Int, _ projection: Projection) -> [FloatBuffer] {
    changes(layer: layer, projection).filter { $0.factors == nil }.compactMap(\.outputScale)
  }

  /// The projections whose biases in a model the adapter would have to scale.
  package func scaledBiases(of model: LlamaModel) -> [Projection] {
    Projection.allCases.filter { projection in
      model.layers[0].bias(projection) != nil && !biasScales(layer: 0, projection).isEmpty
    }
  }

  /// The factors of a layer's projection in the uppermost adapter that has any there.
  public func factors(layer: Int, _ projection: Projection) -> LoRAFactors? {
    changes(layer: layer, projection).last { $0.factors != nil }?.factors
  }

  /// The memory of the adapter's numbers.
  public var byteCount: Int {
    table.joined().reduce((virtualTokens?.count ?? 0) * 4) { $0 + $1.byteCount }
  }

  private init(
    methods: [AdapterMethod], configuration: LlamaConfiguration, virtualTokens: FloatBuffer? = nil,
    table: [[ProjectionChange]]? = nil
  ) {
    self.methods = methods
    layerCount = configuration.layers
    width = configuration.width
    self.virtualTokens = virtualTokens
    let table =
      table
      ?? [[ProjectionChange]](
        repeating: [], count: configuration.layers * Projection.allCases.count)
    self.table = table
    changeTable = ChangeTable(table)
  }

  // MARK: LoRA and DoRA

  /// A LoRA adapter. Takes one dictionary of factors per layer, which must all hold exactly
  /// `targets`, with sizes that fit `configuration`. Throws ``AdapterError``.
  public convenience init(
    rank: Int, alpha: Float, targets: [Projection], rankStabilized: Bool = false,
    layers: [[Projection: LoRAFactors]], configuration: LlamaConfiguration
  ) throws(AdapterError) {
    try self.init(
      LoRASettings(rank: rank, alpha: alpha, targets: targets, rankStabilized: rankStabilized),
      layers: layers, configuration: configuration, model: nil, under: nil)
  }

  /// A LoRA adapter or, with `settings.dora`, a DoRA adapter, whose factors need magnitudes; the
  /// norms that those are divided by are those of `model`, changed by the adapter `under` this one
  /// where it was trained over one. Throws ``AdapterError``.
  public convenience init(
    _ settings: LoRASettings, layers: [[Projection: LoRAFactors]], model: LlamaModel,
    over under: Adapter? = nil
  ) throws(AdapterError) {
    try self.init(
      settings, layers: layers, configuration: model.configuration, model: model, under: under)
  }

  private convenience init(
    _ settings: LoRASettings, layers: [[Projection: LoRAFactors]],
    configuration: LlamaConfiguration, model: LlamaModel?, under: Adapter?
  ) throws(AdapterError) {
    guard settings.rank > 0, settings.rank <= 4096, settings.alpha.isFinite else {
      throw AdapterError(
        "An adapter's rank has to be from 1 to 4096 and its alpha finite, not \(settings.rank) and "
          + "\(settings.alpha).")
    }
    try Self.check(layers.map { Set($0.keys) }, targets: settings.targets, configuration)
    var table: [[ProjectionChange]] = []
    for (number, layer) in layers.enumerated() {
      for projection in Projection.allCases {
        guard let factors = layer[projection] else {
          table.append([])
          continue
        }
        let (input, output) = (
          projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
        )
        guard factors.a.count == settings.rank * input, factors.b.count == settings.rank * output
        else {
          throw AdapterError(
            "Layer \(number) \(projection.rawValue) of the adapter has factors of "
              + "\(factors.a.count) and \(factors.b.count) numbers; rank \(settings.rank) and this "
              + "model want \(settings.rank * input) and \(settings.rank * output).")
        }
        guard factors.magnitude?.count == (settings.dora ? output : nil) else {
          throw AdapterError(
            "Layer \(number) \(projection.rawValue) of the adapter has "
              + "\(factors.magnitude?.count ?? 0) magnitudes; wanted are "
              + "\(settings.dora ? output : 0).")
        }
        var norms: FloatBuffer?
        if let magnitude = factors.magnitude, let model {
          norms = model.doraScale(
            layer: number, projection, factors: factors, magnitude: magnitude,
            rank: settings.rank, scaling: settings.scaling, under: under)
        }
        table.append([
          ProjectionChange(
            factors: factors, rank: settings.rank, scaling: settings.scaling, outputScale: norms)
        ])
      }
    }
    self.init(methods: [.lora(settings)], configuration: configuration, table: table)
  }

  // MARK: (IA)³ and prompt tuning

  /// An (IA)³ adapter. Takes one dictionary of scales per layer, which must all hold exactly the
  /// targets: [input width] for feed-forward targets, [output width] for the others. Throws
  /// ``AdapterError``.
  public convenience init(
    _ settings: IA3Settings, layers: [[Projection: FloatBuffer]], configuration: LlamaConfiguration
  ) throws(AdapterError) {
    try Self.check(layers.map { Set($0.keys) }, targets: settings.targets, configuration)
    guard Set(settings.feedForward).isSubset(of: settings.targets) else {
      throw AdapterError("An (IA)³ adapter's feed-forward projections must be among its targets.")
    }
    var table: [[ProjectionChange]] = []
    for (number, layer) in layers.enumerated() {
      for projection in Projection.allCases {
        guard let scale = layer[projection] else {
          table.append([])
          continue
        }
        let scalesInput = settings.feedForward.contains(projection)
        let wanted =
          scalesInput
          ? projection.inputWidth(in: configuration) : projection.outputWidth(in: configuration)
        guard scale.count == wanted else {
          throw AdapterError(
            "Layer \(number) \(projection.rawValue) of the adapter has \(scale.count) scales; this "
              + "model wants \(wanted).")
        }
        table.append([
          scalesInput ? ProjectionChange(inputScale: scale) : ProjectionChange(outputScale: scale)
        ])
      }
    }
    self.init(methods: [.ia3(settings)], configuration: configuration, table: table)
  }

  /// A prompt-tuning adapter of embeddings [virtual tokens × width]. Throws ``AdapterError``.
  public convenience init(
    promptEmbeddings: FloatBuffer, configuration: LlamaConfiguration
  ) throws(AdapterError) {
    let (count, rest) = promptEmbeddings.count.quotientAndRemainder(
      dividingBy: configuration.width)
    guard count > 0, rest == 0, count < configuration.contextLength else {
      throw AdapterError(
        "Virtual tokens have to be rows of \(configuration.width) numbers, fewer than the model's "
          + "context of \(configuration.contextLength); these are \(promptEmbeddings.count) numbers."
      )
    }
    self.init(
      methods: [.promptTuning(virtualTokens: count)], configuration: configuration,
      virtualTokens: promptEmbeddings)
  }

  // MARK: Stacks

  /// Several adapters as one, from the lowest (the task's) to the uppermost (the user's): what the
  /// uppermost does to the model that the others have made. The lowest one's virtual tokens stand
  /// first. A DoRA adapter keeps the norms that it was made with. Throws ``AdapterError``.
  public static func stack(
    _ adapters: [Adapter], configuration: LlamaConfiguration
  ) throws(AdapterError) -> Adapter {
    guard !adapters.isEmpty else { throw AdapterError("A stack needs an adapter.") }
    guard adapters.allSatisfy({ $0.fits(configuration) }) else {
      throw AdapterError("A stack's adapters have to be for models of the same shape.")
    }
    let rows = adapters.flatMap { $0.virtualTokens?.array ?? [] }
    return Adapter(
      methods: adapters.flatMap(\.methods), configuration: configuration,
      virtualTokens: rows.isEmpty ? nil : FloatBuffer(rows),
      table: adapters[0].table.indices.map { index in adapters.flatMap { $0.table[index] } })
  }

  /// Whether the numbers have the sizes of a model. All layers have the same.
  func fits(_ configuration: LlamaConfiguration) -> Bool {
    layerCount == configuration.layers && width == configuration.width
      && Projection.allCases.allSatisfy { projection in
        let input = projection.inputWidth(in: configuration)
        let output = projection.outputWidth(in: configuration)
        return changes(layer: 0, projection).allSatisfy { change in
          (change.factors.map { $0.a.count == change.rank * input } ?? true)
            && (change.factors.map { $0.b.count == change.rank * output } ?? true)
            && (change.inputScale.map { $0.count == input } ?? true)
            && (change.outputScale.map { $0.count == output } ?? true)
        }
      }
  }

  private static func check(
    _ layers: [Set<Projection>], targets: [Projection], _ configuration: LlamaConfiguration
  ) throws(AdapterError) {
    guard layers.count == configuration.layers else {
      throw AdapterError(
        "The adapter has \(layers.count) layers, the model \(configuration.layers).")
    }
    guard !targets.isEmpty else { throw AdapterError("The adapter has no targets.") }
    for (number, found) in layers.enumerated() where found != Set(targets) {
      throw AdapterError(
        "Layer \(number) of the adapter has numbers for \(found.map(\.rawValue).sorted()), not for "
          + "\(targets.map(\.rawValue).sorted()).")
    }
  }
}
