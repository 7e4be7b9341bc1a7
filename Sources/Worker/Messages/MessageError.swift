// Why a message from a topic could not be taken: said to whoever reads the dead letter or the error reply.

import Foundation

/// A message that is not what its topic is for.
public struct MessageError: Error, Sendable, Equatable, CustomStringConvertible, LocalizedError {
  /// Stable codes, as they stand in error replies.
  public enum Code: String, Sendable {
    case invalidMessage = "invalid_message"
    case unknownTask = "unknown_task"
    case invalidInput = "invalid_input"
    case deadlineExceeded = "deadline_exceeded"
    case unknownAdapter = "unknown_adapter"
    case unknownRequest = "unknown_request"
    case invalidReplyAddress = "invalid_reply_address"
    case unavailable
    case failed = "internal_error"
  }

  public let code: Code
  /// A sentence for whoever sent the message.
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// Two users, events or requests must never become one.
  static func unclearNumber(_ name: String) -> MessageError {
    MessageError(
      .invalidMessage,
      "\"\(name)\" is a number that other numbers cannot be told from; a whole number keeps its digits, anything else has to be a string"
    )
  }

  public var description: String { message }
  public var errorDescription: String? { message }
}
