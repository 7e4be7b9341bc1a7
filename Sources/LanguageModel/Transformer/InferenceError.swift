// Why the model refuses to compute.

import Foundation

/// An input that the model cannot take, or an output that is no number.
public enum InferenceError: Error, Equatable, CustomStringConvertible, LocalizedError {
  case noTokens
  case tokenOutsideVocabulary(token: Int32, vocabulary: Int)
  case contextExceeded(positions: Int, contextLength: Int)
  case cacheOfAnotherModel
  case cacheUsedTwice
  case cacheOfAnotherAdapter(cacheVirtualTokens: Int, adapterVirtualTokens: Int)
  case adapterOfAnotherModel(adapterLayers: Int, modelLayers: Int)
  case invalidSampling(String)
  case invalidConstraint(String)
  case notFinite

  public var errorDescription: String? { description }

  public var description: String {
    switch self {
    case .noTokens: "There are no tokens to compute; a prompt needs at least one."
    case .tokenOutsideVocabulary(let token, let vocabulary):
      "The token \(token) is outside the model's vocabulary of \(vocabulary)."
    case .contextExceeded(let positions, let contextLength):
      "\(positions) tokens do not fit the model's context of \(contextLength)."
    case .cacheOfAnotherModel: "The key-value cache was made for a model of another shape."
    case .cacheUsedTwice: "One key-value cache cannot serve two sequences of one call."
    case .cacheOfAnotherAdapter(let cache, let adapter):
      "The key-value cache begins with \(cache) virtual tokens, the adapter has \(adapter); a "
        + "sequence keeps the adapter that it began with."
    case .adapterOfAnotherModel(let adapterLayers, let modelLayers):
      "The adapter was made for a model of another shape (\(adapterLayers) layers, here "
        + "\(modelLayers))."
    case .invalidSampling(let what), .invalidConstraint(let what): what
    case .notFinite:
      "The model's output is not a finite number; its weights or the adapter's are damaged."
    }
  }
}
