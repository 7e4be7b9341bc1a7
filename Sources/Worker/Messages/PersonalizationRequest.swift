// A message of the topic `personalization-requests`: what is asked, how to answer, and where the reply goes.

import Foundation
import JSON
import KafkaClient
import Personalization
import Storage

/// Which adapter answers a request.
public enum AdapterChoice: Sendable, Equatable {
  case active
  case none
  case version(Int)
}

/// `options` of a request, checked; absent ones are the task's or the worker's defaults.
public struct RequestOptions: Sendable, Equatable {
  /// `max_tokens` of the answer, from 1; nil: the task's.
  public var maximumTokens: Int?
  /// 0 to 10; 0 takes the likeliest token.
  public var temperature: Double = 0
  /// 0.0001 to 1; 1 takes all tokens.
  public var topP: Double = 1
  /// The same seed draws the same tokens; up to 2⁵³.
  public var seed: UInt64 = 0
  /// History items to retrieve; nil: the worker's default.
  public var retrieve: Int?
  /// Whether the prompt has the user's profile; nil: the worker's default.
  public var profile: Bool?
  public var adapter: AdapterChoice = .active
  /// `deadline_ms`, from the time of the request's message; nil: the worker's default.
  public var deadline: Duration?
}

/// A request that was checked.
public struct PersonalizationRequest: Sendable {
  /// At most 256 bytes.
  public let requestID: String
  public let userID: String
  public let task: TaskDefinition
  /// By the names of fields, as it was sent; the task takes it.
  public let input: [String: JSONValue]
  public let options: RequestOptions

  static let maximumIdentifierBytes = 256

  var stream: StreamID { StreamID(userID: userID, task: task.name) }

  /// Reads and checks a message.
  /// - Parameter maximumTokens: the most that `max_tokens` may ask for.
  /// - Throws: ``MessageError`` for the error reply.
  public init(
    _ message: KafkaMessage, catalogue: TaskCatalogue,
    maximumTokens: Int = RequestOptions.maximumTokens
  ) throws {
    let envelope = try Envelope(message)
    userID = try envelope.requiredText(
      "user_id", otherwise: envelope.subject ?? message.keyText,
      maximum: BehaviorEvent.maximumUserBytes)
    guard !envelope.unclear.contains("request_id") else {
      throw MessageError.unclearNumber("request_id")
    }
    requestID = Self.requestID(envelope, message)
    let taskName = try envelope.requiredText("task", maximum: 128)
    guard let task = catalogue[taskName] else {
      throw MessageError.unknownTask(taskName, in: catalogue)
    }
    self.task = task
    guard case .object(let input)? = envelope.fields["input"] else {
      let found = envelope.fields["input"]?.kindName ?? "nothing"
      throw MessageError(.invalidMessage, "\"input\" must be an object, found \(found)")
    }
    do {
      _ = try task.validate(input: .object(input), output: nil)
    } catch let error as TaskContentError {
      throw MessageError(.invalidInput, error.description)
    }
    self.input = input
    options = try RequestOptions(envelope.fields["options"], maximumTokens: maximumTokens)
  }

  /// The request's id as far as the message tells one: errors are answered with it too.
  static func requestID(_ envelope: Envelope?, _ message: KafkaMessage) -> String {
    if let text = try? envelope?.text("request_id"), !text.isEmpty,
      text.utf8.count <= maximumIdentifierBytes
    {
      return text
    }
    return envelope?.identifier ?? "\(message.topic)-\(message.partition)-\(message.offset)"
  }
}

extension RequestOptions {
  /// What `max_tokens` may ask for unless the worker is told otherwise (`infer.maximumTokens`).
  public static let maximumTokens = 4_096

  init(_ value: JSONValue?, maximumTokens limit: Int = Self.maximumTokens) throws {
    guard let value, !value.isNull else { return }
    guard case .object(let fields) = value else {
      throw MessageError(.invalidMessage, "\"options\" must be an object, found \(value.kindName)")
    }
    func number(_ name: String, in range: ClosedRange<Double>, whole: Bool) throws -> Double? {
      guard let value = fields[name], !value.isNull else { return nil }
      guard let number = value.number, range.contains(number),
        !whole || number == number.rounded()
      else {
        let low = JSONValue.text(of: range.lowerBound)
        let high = JSONValue.text(of: range.upperBound)
        throw MessageError(
          .invalidMessage,
          "options.\(name) must be \(whole ? "a whole number" : "a number") from \(low) to \(high), found \(value.canonical.prefix(40))"
        )
      }
      return number
    }
    maximumTokens = try number("max_tokens", in: 1...Double(limit), whole: true).map {
      Int($0)
    }
    temperature = try number("temperature", in: 0...10, whole: false) ?? 0
    topP = try number("top_p", in: 0.0001...1, whole: false) ?? 1
    seed = UInt64(try number("seed", in: 0...9_007_199_254_740_992, whole: true) ?? 0)
    retrieve = try number("retrieve", in: 0...64, whole: true).map { Int($0) }
    deadline = try number("deadline_ms", in: 1...86_400_000, whole: true).map {
      .milliseconds(Int($0))
    }
    switch fields["profile"] {
    case nil, .null?: break
    case .bool(let wanted)?: profile = wanted
    case let other?:
      throw MessageError(
        .invalidMessage, "options.profile must be true or false, found \(other.kindName)")
    }
    switch fields["adapter"] {
    case nil, .null?, .string("active")?: adapter = .active
    case .string("none")?: adapter = .none
    default:
      guard let version = try? number("adapter", in: 1...2_147_483_647, whole: true) else {
        throw MessageError(
          .invalidMessage, "options.adapter must be \"active\", \"none\" or a version number")
      }
      adapter = .version(Int(version))
    }
  }
}
