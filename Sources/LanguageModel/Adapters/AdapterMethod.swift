// The PEFT methods that are known here, with the settings that decide how an adapter's numbers apply.

import Foundation

/// The settings of a LoRA adapter (arXiv 2106.09685), by PEFT's words.
public struct LoRASettings: Sendable, Equatable {
  /// r: the rows of A and the columns of B.
  public var rank: Int
  /// What ``scaling`` is made of.
  public var alpha: Float
  /// The projections that are adapted, in every layer.
  public var targets: [Projection]
  /// rsLoRA (arXiv 2312.03732): the scaling is alpha / √rank instead of alpha / rank.
  public var rankStabilized: Bool
  /// DoRA (arXiv 2402.09353): each row of W + ΔW is brought to a trained magnitude.
  public var dora: Bool

  /// - Parameter targets: in any order; they are kept in that of `Projection.allCases`, each once.
  public init(
    rank: Int, alpha: Float, targets: [Projection], rankStabilized: Bool = false, dora: Bool = false
  ) {
    self.rank = rank
    self.alpha = alpha
    self.targets = Projection.allCases.filter(Set(targets).contains)
    self.rankStabilized = rankStabilized
    self.dora = dora
  }

  /// What B A is multiplied with.
  public var scaling: Float {
    alpha / (rankStabilized ? Float(rank).squareRoot() : Float(rank))
  }
}

/// The settings of an (IA)³ adapter (arXiv 2205.05638).
public struct IA3Settings: Sendable, Equatable {
  /// The projections that are adapted, in every layer.
  public var targets: [Projection]
  /// Those of the targets whose input is scaled; the others' output is.
  public var feedForward: [Projection]

  /// The defaults are PEFT's for llama: keys, values and the down projection's input.
  public init(
    targets: [Projection] = [.key, .value, .down], feedForward: [Projection] = [.down]
  ) {
    self.targets = Projection.allCases.filter(Set(targets).contains)
    self.feedForward = Projection.allCases.filter(Set(feedForward).contains)
  }
}

/// A PEFT method.
public enum AdapterMethod: Sendable, Equatable {
  /// LoRA, rsLoRA and DoRA.
  case lora(LoRASettings)
  case ia3(IA3Settings)
  /// Prompt tuning (arXiv 2104.08691): embeddings that stand before the prompt.
  case promptTuning(virtualTokens: Int)
}

extension AdapterMethod: CustomStringConvertible {
  /// In words: `LoRA of rank 8, alpha 16, on q_proj and v_proj`.
  public var description: String {
    func list(_ projections: [Projection]) -> String {
      let names = projections.map(\.rawValue)
      return names.count < 2
        ? names.joined()
        : "\(names.dropLast().joined(separator: ", ")) and \(names.last ?? "")"
    }
    switch self {
    case .lora(let settings):
      let name = settings.dora ? "DoRA" : "LoRA"
      let alpha =
        settings.alpha == settings.alpha.rounded()
        ? String(format: "%.0f", settings.alpha) : "\(settings.alpha)"
      return "\(name) of rank \(settings.rank), alpha \(alpha)"
        + "\(settings.rankStabilized ? " (scaled by its rank's root)" : ""), on "
        + list(settings.targets)
    case .ia3(let settings):
      let input =
        settings.feedForward.isEmpty ? "" : ", by the input of \(list(settings.feedForward))"
      return "(IA)³ on \(list(settings.targets))\(input)"
    case .promptTuning(let tokens): return "prompt tuning with \(tokens) tokens"
    }
  }
}

/// Why numbers and an adapter's description, or an adapter and a model, do not fit together.
public struct AdapterError: Error, Equatable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
