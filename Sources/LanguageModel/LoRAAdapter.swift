// A user's low-rank change of the base model (LoRA, arXiv 2106.09685).

import Foundation
import LinearAlgebra

/// The two factors of one projection's change: ΔW = scaling · B A. Row-major f32, not to be written
/// once the adapter is in use.
public struct LoRAFactors: Sendable {
  /// [rank × input width]
  public let a: FloatBuffer
  /// [output width × rank]
  public let b: FloatBuffer

  public init(a: FloatBuffer, b: FloatBuffer) {
    self.a = a
    self.b = b
  }
}

/// Why factors and an adapter's description do not fit together.
public struct LoRAShapeError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let description: String
  public var errorDescription: String? { description }
}

/// An immutable LoRA adapter for a llama-architecture model, in the Hugging Face layout.
public final class LoRAAdapter: Sendable {
  public let rank: Int
  public let alpha: Float
  /// In the order of `Projection.allCases`.
  public let targets: [Projection]
  /// What B A is multiplied with.
  public let scaling: Float
  public let layerCount: Int
  private let factors: [LoRAFactors?]

  /// Takes one dictionary of factors per layer, which must all hold exactly `targets`, with sizes
  /// that fit `configuration`. `scaling` is alpha / rank unless given (rank-stabilised LoRA has
  /// alpha / sqrt(rank)). Throws ``LoRAShapeError``.
  public init(
    rank: Int, alpha: Float, targets: [Projection], layers: [[Projection: LoRAFactors]],
    configuration: LlamaConfiguration, scaling: Float? = nil
  ) throws(LoRAShapeError) {
    guard rank > 0, rank <= 4096, alpha.isFinite else {
      throw LoRAShapeError(
        description: "An adapter's rank has to be from 1 to 4096 and its alpha finite, not "
          + "\(rank) and \(alpha).")
    }
    guard layers.count == configuration.layers else {
      throw LoRAShapeError(
        description: "The adapter has \(layers.count) layers, the model \(configuration.layers).")
    }
    let wanted = Set(targets)
    var factors = [LoRAFactors?](
      repeating: nil, count: layers.count * Projection.allCases.count)
    for (number, layer) in layers.enumerated() {
      guard Set(layer.keys) == wanted else {
        throw LoRAShapeError(
          description: "Layer \(number) of the adapter has factors for "
            + "\(layer.keys.map(\.rawValue).sorted()), not for "
            + "\(wanted.map(\.rawValue).sorted()).")
      }
      for (projection, pair) in layer {
        let a = rank * projection.inputWidth(in: configuration)
        let b = rank * projection.outputWidth(in: configuration)
        guard pair.a.count == a, pair.b.count == b else {
          throw LoRAShapeError(
            description: "Layer \(number) \(projection.rawValue) of the adapter has factors of "
              + "\(pair.a.count) and \(pair.b.count) numbers; rank \(rank) and this model want "
              + "\(a) and \(b).")
        }
        factors[number * Projection.allCases.count + projection.index] = pair
      }
    }
    self.rank = rank
    self.alpha = alpha
    self.targets = Projection.allCases.filter(wanted.contains)
    self.scaling = scaling ?? alpha / Float(rank)
    self.layerCount = layers.count
    self.factors = factors
  }

  /// The factors of a layer's projection, nil where it is not a target.
  public func factors(layer: Int, _ projection: Projection) -> LoRAFactors? {
    factors[layer * Projection.allCases.count + projection.index]
  }

  /// The memory of the factors.
  public var byteCount: Int {
    factors.reduce(0) { $0 + (($1?.a.count ?? 0) + ($1?.b.count ?? 0)) * 4 }
  }
}
