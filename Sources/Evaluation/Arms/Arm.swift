// What an evaluation compares: with which adapters and with what in its prompts a query is answered.

import Foundation
import OPPU
import Personalization

/// One arm of an evaluation.
public struct Arm: Sendable, Hashable, Codable {
  /// Where answers come from.
  public enum Source: Sendable, Hashable, Codable {
    /// No model: the commonest of the user's own outputs.
    case majority
    /// No model: the commonest output of the user's k nearest items, ties to the nearest.
    case nearest(Int)
    case model(Tuning, PromptVariant)
  }

  /// Which adapters stand over the base model.
  public enum Tuning: String, Sendable, Codable {
    /// None: personalisation, if any, is in the prompt alone.
    case base
    /// The task's, trained on other users with prompts of this arm's variant.
    case task
    /// The task's and the user's own over it.
    case user
  }

  /// As it was asked for; the key of its results.
  public let name: String
  /// What answers.
  public let source: Source

  /// An arm by its name: `base`, `rag-K`, `pag`, `rag-K+pag` on the base model; the same behind
  /// `task` and `oppu` (`task+rag-4`, `oppu+pag`); `all` is `oppu+rag-K+pag`; `majority` and
  /// `nearest-K` without a model. `rag` and `nearest` alone take `retrieve` items.
  /// - Throws: ``UnknownArmError``.
  public init(_ name: String, retrieve: Int) throws {
    self.name = name
    switch name {
    case "majority": source = .majority
    case "nearest": source = .nearest(retrieve)
    case _ where name.hasPrefix("nearest-"):
      source = .nearest(try Self.number(name, in: name))
    case "all": source = .model(.user, PromptVariant(retrieve: retrieve, profile: true))
    default: source = try Self.model(name, retrieve: retrieve)
    }
  }

  private static func model(_ name: String, retrieve: Int) throws -> Source {
    var tuning = Tuning.base
    var variant = PromptVariant.plain
    for (index, part) in name.split(separator: "+", omittingEmptySubsequences: false).enumerated() {
      switch part {
      case "base" where index == 0: break
      case "task" where index == 0: tuning = .task
      case "oppu" where index == 0: tuning = .user
      case "pag" where !variant.profile: variant.profile = true
      case "rag" where variant.retrieve == 0: variant.retrieve = retrieve
      case _ where part.hasPrefix("rag-") && variant.retrieve == 0:
        variant.retrieve = try number(part, in: name)
      default: throw UnknownArmError(name: name)
      }
    }
    return .model(tuning, variant)
  }

  private static func number(_ part: some StringProtocol, in name: String) throws -> Int {
    guard let k = part.split(separator: "-").last.flatMap({ Int($0) }), (1...64).contains(k) else {
      throw UnknownArmError(name: name)
    }
    return k
  }

  /// What stands in the arm's prompts; nil without a model.
  public var variant: PromptVariant? {
    if case .model(_, let variant) = source { variant } else { nil }
  }

  /// For people: "OPPU + RAG 4".
  public var title: String {
    switch source {
    case .majority: return "user's commonest"
    case .nearest(1): return "user's nearest"
    case .nearest(let k): return "user's \(k) nearest"
    case .model(let tuning, let variant):
      var parts: [String]
      switch tuning {
      case .base: parts = variant == .plain ? ["base"] : []
      case .task: parts = ["task"]
      case .user: parts = ["OPPU"]
      }
      if variant.retrieve > 0 { parts.append("RAG \(variant.retrieve)") }
      if variant.profile { parts.append("PAG") }
      return parts.joined(separator: " + ")
    }
  }

  /// The arms of a whole evaluation.
  public static let usual = [
    "majority", "nearest-5", "base", "rag-1", "rag-4", "pag", "rag-4+pag", "task", "task+rag-4",
    "task+pag", "oppu", "oppu+rag-4", "oppu+pag", "all",
  ]
}

/// There is no arm of that name.
public struct UnknownArmError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let name: String

  public var description: String {
    "there is no arm \"\(name)\"; an arm is base, task or oppu, with +rag-K and +pag behind it or "
      + "not, rag-K and pag alone, all, majority or nearest-K, as in base, rag-4, task+rag-4, "
      + "oppu+rag-4+pag; K is 1 to 64"
  }
  public var errorDescription: String? { description }
}
