// Feedback and the answer that it is about become an event of the user's history.

import Foundation
import Personalization
import Storage

extension Feedback {
  /// The event that this feedback stands for: what the message itself says counts before what was recorded.
  /// - Throws: ``MessageError`` where the two do not fit.
  func event(joinedTo answer: RecordedAnswer, catalogue: TaskCatalogue) throws -> IncomingEvent {
    let name = event.stream.task.isEmpty ? answer.stream.task : event.stream.task
    guard name == answer.stream.task else {
      throw MessageError(
        .invalidInput,
        "the feedback is for the task \"\(name)\", but request \"\(requestID)\" was for \"\(answer.stream.task)\""
      )
    }
    guard let task = catalogue[name] else { throw MessageError.unknownTask(name, in: catalogue) }
    var joined = event
    joined.stream = StreamID(userID: event.stream.userID, task: name)
    if !hasInput { joined.input = answer.input }
    let own: String?
    do {
      own = try task.validate(input: joined.input.value, output: output).output
    } catch let error as TaskContentError {
      throw MessageError(.invalidInput, error.description)
    }
    switch verdict ?? (own == answer.output ? .accepted : .edited) {
    case .accepted:
      if let own, own != answer.output {
        throw MessageError(
          .invalidInput,
          "accepted feedback whose output is not the answer; where the user wrote another one it is edited"
        )
      }
      joined.output = answer.output
      joined.verdict = Verdict.accepted.rawValue
    case .edited:
      joined.output = own
      joined.verdict = Verdict.edited.rawValue
    case .rejected:
      joined.output = nil
      joined.verdict = Verdict.rejected.rawValue
    }
    return joined
  }

  func pending(in catalogue: TaskCatalogue) -> PendingFeedback {
    PendingFeedback(userID: event.stream.userID, requestID: requestID, offset: event.offset) {
      try event(joinedTo: $0, catalogue: catalogue)
    }
  }
}

extension MessageError {
  static func unknownRequest(_ requestID: String) -> MessageError {
    MessageError(
      .unknownRequest,
      "no answer to request \"\(requestID.prefix(80))\" of this user is on record; name task, input and output in the feedback itself"
    )
  }
}
