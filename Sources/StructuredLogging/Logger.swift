// A logger: a level, values that every line carries, and the handler that writes the lines.

import Synchronization

/// Says what happens, at a level, with values that programs can search for. A copy is its own.
public struct Logger: Sendable {
  /// How much a line matters; `trace` the least.
  public enum Level: String, CaseIterable, Comparable, Codable, Sendable {
    case trace, debug, info, notice, warning, error, critical

    private static let rising = allCases

    public static func < (a: Level, b: Level) -> Bool {
      a != b && rising.first { $0 == a || $0 == b } == a
    }
  }

  /// What happened, in words.
  public typealias Message = String
  /// Values by their names.
  public typealias Metadata = [String: String]

  /// The least level that is written.
  public var logLevel = Level.info
  private var metadata: Metadata = [:]
  private let handler: any LogHandler

  /// - Parameter factory: makes the handler of a label; nil: as ``LoggingSystem`` does it now.
  public init(label: String, factory: (@Sendable (String) -> any LogHandler)? = nil) {
    handler = (factory ?? LoggingSystem.factory.withLock(\.self))(label)
  }

  /// A value that every line of this logger carries.
  public subscript(metadataKey key: String) -> String? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  /// Writes a line where its level is at least ``logLevel``; else nothing of it is computed.
  /// - Parameter values: of this line; they go before the logger's own of the same key.
  public func log(
    level: Level, _ message: @autoclosure () -> Message,
    metadata values: @autoclosure () -> Metadata = [:]
  ) {
    guard level >= logLevel else { return }
    handler.log(level: level, message: message(), metadata: metadata.merging(values()) { $1 })
  }

  /// A line at the level `trace`; neither argument is evaluated where that is not written.
  public func trace(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .trace, message(), metadata: metadata()) }
  /// A line at the level `debug`.
  public func debug(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .debug, message(), metadata: metadata()) }
  /// A line at the level `info`.
  public func info(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .info, message(), metadata: metadata()) }
  /// A line at the level `notice`.
  public func notice(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .notice, message(), metadata: metadata()) }
  /// A line at the level `warning`.
  public func warning(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .warning, message(), metadata: metadata()) }
  /// A line at the level `error`.
  public func error(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .error, message(), metadata: metadata()) }
  /// A line at the level `critical`.
  public func critical(
    _ message: @autoclosure () -> Message, metadata: @autoclosure () -> Metadata = [:]
  ) { log(level: .critical, message(), metadata: metadata()) }
}

/// Where lines go. A handler is called by several threads at once.
public protocol LogHandler: Sendable {
  /// Writes one line, whose level is high enough already.
  func log(level: Logger.Level, message: Logger.Message, metadata: Logger.Metadata)
}

/// Writes nothing.
public struct NoOpLogHandler: LogHandler {
  public init() {}
  public func log(level: Logger.Level, message: Logger.Message, metadata: Logger.Metadata) {}
}

/// What loggers write through: text on standard error, until a program says otherwise.
public enum LoggingSystem {
  static let factory = Mutex<@Sendable (String) -> any LogHandler>({ StreamLogHandler(label: $0) })

  /// Chooses the handler of the loggers made from now on; it is given the logger's label.
  public static func bootstrap(_ makeHandler: @escaping @Sendable (String) -> any LogHandler) {
    factory.withLock { $0 = makeHandler }
  }
}
