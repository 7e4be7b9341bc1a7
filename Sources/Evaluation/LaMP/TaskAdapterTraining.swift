// Task adapters from LaMP's users.

import FineTuning
import Foundation
import OPPU
import Personalization

extension TaskAdapterStore {
  /// Trains an adapter on users and writes it.
  /// - Parameter queries: whether their queries and golds are trained on as well.
  /// - Returns: nil where `onStep` stopped it.
  /// - Throws: errors of training and of the folder's files.
  public func train(
    _ adaptation: TaskAdaptation, on users: [LaMPUser], queries: Bool, seed: UInt64,
    onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> Trained? {
    let histories = users.map { user in
      let answered = (queries ? user.queries : []).compactMap { query in
        query.gold.map {
          HistoryItem(
            eventID: query.id,
            occurredAt: query.occurredAt ?? user.history.last?.occurredAt ?? .distantPast,
            input: query.input, output: $0)
        }
      }
      return (id: user.id, history: user.history + answered)
    }
    return try train(adaptation, on: histories, seed: seed, onStep: onStep)
  }
}
