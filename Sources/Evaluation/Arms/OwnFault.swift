// What ends the work of one user, or of one combination of settings, and not that of the others.

import FineTuning
import Foundation
import LanguageModel
import Personalization

/// Runs what belongs to one user alone.
/// - Returns: the result, or in words why there is none: a training that diverges, numbers that are
///   none, an example or a prompt that does not fit.
/// - Throws: what would happen to every user.
func withOwnFaults<Value>(_ work: () throws -> Value) throws -> OwnResult<Value> {
  do {
    return .done(try work())
  } catch let error as TrainingError {
    switch error {
    case .diverged, .memory, .example, .noExamples: return .failed(reason(error))
    case .configuration, .adapter: throw error
    }
  } catch let error as InferenceError {
    return .failed(reason(error))
  } catch let error as PromptError {
    return .failed(reason(error))
  }
}

/// For a sentence that goes on.
private func reason(_ error: any Error) -> String {
  let text = "\(error)"
  return text.hasSuffix(".") ? String(text.dropLast()) : text
}

/// What came of one user.
enum OwnResult<Value> {
  case done(Value)
  case failed(String)

  var value: Value? { if case .done(let value) = self { value } else { nil } }
}
