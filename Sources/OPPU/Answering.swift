// Answers to prompts, each with its own adapter: the computation behind serving and evaluation alike.

import Foundation
import LanguageModel
import Personalization

/// A prompt that is ready to be answered.
public struct Question: Sendable {
  public var task: TaskDefinition
  /// In tokens, without white space at its end.
  public var prompt: [Int32]
  /// The user's adapter, a task's, or both stacked; nil for the base model.
  public var adapter: Adapter?
  /// The longest answer in tokens; of labels and ratings only where they are generated freely.
  public var maximumTokens: Int
  /// How tokens of a generated answer are drawn.
  public var sampling: SamplingOptions
  /// Whether a label or rating is generated and then read, instead of chosen among all answers.
  public var isFree: Bool
  /// Whose the prompt's beginnings are where they are kept.
  public var owner: PrefixOwner

  /// - Parameter maximumTokens: nil for the task's own.
  public init(
    task: TaskDefinition, prompt: [Int32], adapter: Adapter?, maximumTokens: Int? = nil,
    sampling: SamplingOptions = .greedy, isFree: Bool = false, owner: PrefixOwner = .everybody
  ) {
    self.owner = owner
    self.task = task
    self.prompt = prompt
    self.adapter = adapter
    self.maximumTokens = maximumTokens ?? task.maximumTokens
    self.sampling = sampling
    self.isFree = isFree
  }
}

/// What the model answered.
public struct Answer: Sendable {
  /// In the task's form; nil where the model wrote nothing that the task can take.
  public var text: String?
  /// The probability of a chosen answer among all answers; nil for generated ones.
  public var probability: Double?
  /// Tokens generated, without the stop token; of a chosen answer those of its text and end of
  /// text.
  public var completionTokens = 0
  /// Tokens of the prompt that an earlier question of its owner had computed.
  public var cachedTokens = 0
  /// For the prompt; of a chosen answer all the time that it took.
  public var prefillSeconds = 0.0
  /// From the first token to the last; 0 for chosen answers.
  public var decodeSeconds = 0.0
}

extension LlamaModel {
  /// Answers all questions, generated ones together in common passes. Labels and ratings are chosen
  /// by their likelihood among all answers of the task. Blocks the calling thread. Throws the
  /// ``InferenceError`` of the first that cannot be answered.
  public func answer(_ questions: [Question], prefixes: PrefixCache? = nil) throws -> [Answer] {
    try answerEach(questions, prefixes: prefixes).map { try $0.get() }
  }

  /// The same, with a result for each question: one that cannot be answered changes nothing in the
  /// others' answers.
  public func answerEach(
    _ questions: [Question], prefixes: PrefixCache? = nil
  ) -> [Result<Answer, InferenceError>] {
    var answers = [Result<Answer, InferenceError>](
      repeating: .success(Answer()), count: questions.count)
    var generated: [Int] = []
    for (index, question) in questions.enumerated() {
      if !question.isFree, let candidates = question.task.candidates {
        answers[index] = Result { () throws(InferenceError) in
          try choose(among: candidates, question, prefixes: prefixes)
        }
      } else {
        generated.append(index)
      }
    }
    let results = generateEach(
      generated.map { index in
        GenerationRequest(
          prompt: questions[index].prompt, maxTokens: questions[index].maximumTokens,
          sampling: questions[index].sampling, stopTokens: tokenizer.stopTokens,
          adapter: questions[index].adapter, owner: questions[index].owner)
      }, prefixes: prefixes)
    for (index, result) in zip(generated, results) {
      answers[index] = result.map { result in
        Answer(
          text: questions[index].task.parse(tokenizer.decode(result.tokens)),
          completionTokens: result.tokens.count, cachedTokens: result.reusedTokens,
          prefillSeconds: result.prefillSeconds, decodeSeconds: result.decodeSeconds)
      }
    }
    return answers
  }

  private func choose(
    among candidates: [String], _ question: Question, prefixes: PrefixCache?
  ) throws(InferenceError) -> Answer {
    let clock = ContinuousClock()
    let begin = clock.now
    let tokens = candidates.map { tokenizer.encodeContinuation($0) + [tokenizer.eos] }
    let scores = try score(
      prompt: question.prompt, candidates: tokens, adapter: question.adapter, prefixes: prefixes,
      owner: question.owner)
    let answer = question.task.answer(logProbabilities: scores.logProbabilities)
    let chosen = question.task.answers?.firstIndex { $0 == answer?.output }
    return Answer(
      text: answer?.output, probability: answer?.probability,
      completionTokens: chosen.map { tokens[$0].count } ?? 0, cachedTokens: scores.reusedTokens,
      prefillSeconds: (clock.now - begin) / .seconds(1))
  }
}
