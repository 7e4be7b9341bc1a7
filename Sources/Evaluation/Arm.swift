// What an evaluation compares: with which adapters and with what in its prompts a query is answered.

import Foundation
import OPPU

/// One arm of an evaluation.
public struct Arm: Sendable, Hashable, Codable {
  /// Which adapters stand over the base model.
  public enum Tuning: String, Sendable, Codable {
    /// None: personalisation, if any, is in the prompt alone.
    case base
    /// The task's, trained on other users with prompts of this arm's variant.
    case task
    /// The task's and the user's own over it.
    case user
  }

  public let name: String
  public let tuning: Tuning
  public let variant: PromptVariant

  /// An arm by its name: `base`, `rag-K`, `pag`, `rag-K+pag` on the base model; the same behind
  /// `task` and `oppu` (`task+rag-4`, `oppu+pag`), with `+`; `all` is `oppu+rag-K+pag`. `rag` alone
  /// takes `retrieve` items.
  /// - Throws: ``UnknownArmError``.
  public init(_ name: String, retrieve: Int) throws {
    var tuning = Tuning.base
    var variant = PromptVariant.plain
    for (index, part) in name.split(separator: "+", omittingEmptySubsequences: false).enumerated() {
      switch part {
      case "base" where index == 0: break
      case "task" where index == 0: tuning = .task
      case "oppu" where index == 0: tuning = .user
      case "all" where name == "all":
        tuning = .user
        variant = PromptVariant(retrieve: retrieve, profile: true)
      case "pag" where !variant.profile: variant.profile = true
      case "rag" where variant.retrieve == 0: variant.retrieve = retrieve
      case _ where part.hasPrefix("rag-") && variant.retrieve == 0:
        guard let k = Int(part.dropFirst(4)), (1...64).contains(k) else {
          throw UnknownArmError(name: name)
        }
        variant.retrieve = k
      default: throw UnknownArmError(name: name)
      }
    }
    self.name = name
    self.tuning = tuning
    self.variant = variant
  }

  /// Whether the arm personalises, if at all, by its prompt alone: nothing was trained for it.
  public var isPromptBased: Bool { tuning == .base }

  /// The arms of a whole evaluation.
  public static let usual = [
    "base", "rag-1", "rag-4", "pag", "rag-4+pag", "task", "task+rag-4", "task+pag",
    "task+rag-4+pag", "oppu", "oppu+rag-4", "oppu+pag", "all",
  ]
}

/// There is no arm of that name.
public struct UnknownArmError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let name: String

  public var description: String {
    "there is no arm \"\(name)\"; an arm is base, task, oppu or all, alone or with +rag-K and +pag "
      + "behind it, or rag-K and pag alone, as in base, rag-4, pag, task+rag-4, oppu+rag-4+pag"
  }
  public var errorDescription: String? { description }
}
