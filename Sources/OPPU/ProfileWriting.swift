// Profiles that the model itself writes, for prompts of training and of questions alike.

import FineTuning
import Foundation
import LanguageModel
import Personalization

extension LlamaModel {
  /// What the base model writes of a user, greedily, from as much of the newest history as fits into
  /// the longest example; nil for an empty history or an answer without words. Blocking.
  ///
  /// - Parameters:
  ///   - eventID: after a shift, the first event of the behaviour to write about.
  ///   - previous: the version before, of which this one is the next.
  /// - Throws: `InferenceError`.
  public func writeProfile(
    of history: [HistoryItem], task: TaskDefinition, cutoff: Int, since eventID: String? = nil,
    after previous: UserProfile? = nil
  ) throws -> UserProfile? {
    let tokens = PromptTokens(tokenizer, controls: task.controlNames)
    let limit = min(cutoff, configuration.contextLength - ModelProfile.maximumTokens)
    guard
      let prompt = ModelProfile.prompt(
        for: UserProfile.items(of: history, since: eventID), task: task, maximumTokens: limit,
        countTokens: { tokens.prompt($0).count })
    else { return nil }
    let answer = try generate([
      GenerationRequest(
        prompt: tokens.prompt(prompt), maxTokens: ModelProfile.maximumTokens,
        sampling: .greedy, stopTokens: tokenizer.stopTokens)
    ])
    return answer.first.flatMap {
      UserProfile(
        tokenizer.decode($0.tokens).replacing("\0", with: ""), from: history, since: eventID,
        after: previous)
    }
  }
}

extension MethodSettings {
  /// The written profile that a training's prompts carry and that goes with its adapter: the one before
  /// as long as it stands. Nil where prompts have none or the computed one, and for a short history.
  ///
  /// - Parameters:
  ///   - eventID: after a shift, the first event of the behaviour to write about.
  ///   - previous: of the adapter that training goes on from.
  public func writtenProfile(
    of history: [HistoryItem], task: TaskDefinition, variant: PromptVariant, model: LlamaModel,
    since eventID: String? = nil, after previous: UserProfile? = nil
  ) throws -> UserProfile? {
    guard variant.profile, profile == .model else { return nil }
    let since = eventID ?? previous?.sinceEventID
    let reason = ProfileRefresh().reason(
      toReplace: previous, history: history, shiftEventID: since)
    guard reason != nil else { return previous }
    return try model.writeProfile(
      of: history, task: task, cutoff: cutoff, since: since, after: previous) ?? previous
  }
}
