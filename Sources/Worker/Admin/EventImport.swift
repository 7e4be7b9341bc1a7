// Back-fill: events from a file of JSON lines into the topic, through the same checks as any other event.

import Cryptography
import Foundation
import KafkaClient
import Personalization
import Storage

/// What a file holds.
public struct EventFileReport: Sendable, Encodable {
  /// A line that ingest would not take.
  public struct Problem: Sendable, Encodable {
    /// From 1.
    public let line: Int
    /// A ``MessageError/Code``'s raw value.
    public let code: String
    public let reason: String
  }

  /// Empty ones are not counted.
  public var lines = 0
  /// Valid lines: events, feedback and erasures.
  public var events = 0
  /// Different users of the valid lines.
  public var users = 0
  /// Valid lines of each task; those that name none are not in it.
  public var tasks: [String: Int] = [:]
  /// The first hundred lines that would become dead letters.
  public var problems: [Problem] = []
  /// Lines that would become dead letters, listed or not.
  public var invalid = 0
  /// How many were sent; nil: none were to be.
  public var sent: Int?
}

/// Checks a file of events and sends it.
public struct EventImport: Sendable {
  private let catalogue: TaskCatalogue
  private let kafka: WorkerConfiguration.Kafka
  private let times: EventTimes

  /// - Throws: where the task file cannot be read: `TaskFileError`, `TaskDefinitionError`.
  public init(configuration: WorkerConfiguration) throws {
    catalogue = try configuration.catalogue()
    kafka = configuration.kafka
    var times = EventTimes()
    times.future = configuration.ingest.future / .seconds(1)
    self.times = times
  }

  /// Checks every line as ingest would.
  /// - Throws: where the file cannot be read.
  public func check(
    _ path: String, progress: (_ bytes: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> EventFileReport {
    var report = EventFileReport()
    var users: Set<String> = []
    var decoder = EventDecoder(catalogue: catalogue, times: times)
    let file = try JSONLines(path)
    while let line = try file.next() {
      report.lines += 1
      progress(file.bytesRead, file.size)
      do {
        let (event, _) = try read(line, with: &decoder)
        report.events += 1
        users.insert(event.userID)
        if let task = event.task { report.tasks[task, default: 0] += 1 }
      } catch {
        report.invalid += 1
        let error = error as? MessageError ?? MessageError(.invalidMessage, "\(error)")
        if report.problems.count < 100 {
          report.problems.append(
            .init(line: file.line, code: error.code.rawValue, reason: error.message))
        }
      }
    }
    report.users = users.count
    return report
  }

  /// Produces the valid lines in their order, keyed by user; those that are not valid are passed over.
  /// - Returns: how many were sent.
  /// - Throws: `KafkaError`; what was sent before stays sent, and sending it again is harmless.
  public func send(_ path: String, progress: (_ events: Int) -> Void = { _ in }) async throws -> Int
  {
    var configuration = kafka.operatorClient
    // Many small messages one after the other: fuller batches, a little later.
    configuration.properties.merge(["linger.ms": "20", "compression.codec": "lz4"]) { own, _ in own
    }
    let producer = try KafkaProducer(configuration: configuration)
    var decoder = EventDecoder(catalogue: catalogue, times: times)
    let file = try JSONLines(path)
    var sent = 0
    var batch: [OutgoingMessage] = []
    func flush() async throws {
      let failures = await producer.send(batch)
      if let failure = failures.first { throw failure.value }
      sent += batch.count
      batch = []
      progress(sent)
    }
    do {
      while let line = try file.next() {
        guard let (event, value) = try? read(line, with: &decoder) else { continue }
        batch.append(
          OutgoingMessage(
            topic: kafka.behaviorTopic, key: Data(event.userID.utf8), value: value))
        if batch.count == 5_000 { try await flush() }
      }
      try await flush()
    } catch {
      await producer.close()
      throw error
    }
    await producer.close()
    return sent
  }

  /// What a line is about, and the value to send.
  ///
  /// A line without an event id gets one made of its content, so that the same file sent twice counts once.
  private func read(
    _ line: Data, with decoder: inout EventDecoder
  ) throws -> (event: (userID: String, task: String?), value: Data) {
    let placeholder = "\u{1}"
    let message = KafkaMessage(
      topic: placeholder, partition: 0, offset: 0, key: nil, value: line, timestamp: nil)
    let event: IncomingEvent
    switch try decoder.decode(message, now: Date()) {
    case .erase(let userID, _): return ((userID, nil), line)
    case .record(let found): event = found
    case .feedback(let found): event = found.event
    }
    let task = event.stream.task.isEmpty ? nil : event.stream.task
    guard event.eventID.hasPrefix(placeholder) else { return ((event.stream.userID, task), line) }
    guard let open = line.firstIndex(of: UInt8(ascii: "{")) else {
      return ((event.stream.userID, task), line)
    }
    var value = Data(
      #"{"event_id":"import-\#(SHA256.hash(data: line).hexadecimal.prefix(40))","#.utf8)
    value.append(line[(open + 1)...])
    return ((event.stream.userID, task), value)
  }
}

/// The lines of a file, one at a time; empty ones are passed over.
final class JSONLines {
  let size: Int
  private let handle: FileHandle
  private var buffer = Data()
  /// Of the next line in the buffer.
  private var start = 0
  private var isAtEnd = false
  private(set) var bytesRead = 0
  /// The number of the line that `next` gave last, from 1.
  private(set) var line = 0

  /// Longer lines are given in part, and refused by whoever reads them.
  private static let longest = CloudEvent.maximumBytes + 1
  private static let largestBuffer = 64 << 20

  init(_ path: String) throws {
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    guard !isFolder.boolValue, let handle = FileHandle(forReadingAtPath: path) else {
      throw MessageError(
        .failed,
        isFolder.boolValue
          ? "\(path) is a folder; a file was expected" : "the file \(path) cannot be read")
    }
    self.handle = handle
    size = Int(try handle.seekToEnd())
    try handle.seek(toOffset: 0)
  }

  deinit { try? handle.close() }

  func next() throws -> Data? {
    while true {
      if let end = buffer[start...].firstIndex(of: 0x0A) {
        let found = buffer[start..<end]
        start = end + 1
        line += 1
        if let trimmed = trim(found) { return trimmed }
        continue
      }
      if isAtEnd {
        guard start < buffer.count else { return nil }
        let found = buffer[start...]
        start = buffer.count
        line += 1
        return trim(found)
      }
      let chunk = try handle.read(upToCount: 1 << 20) ?? Data()
      if chunk.isEmpty { isAtEnd = true }
      bytesRead += chunk.count
      buffer = Data(buffer[start...]) + chunk
      start = 0
      guard buffer.count <= Self.largestBuffer else {
        throw MessageError(
          .invalidMessage, "line \(line + 1) has more than \(Self.largestBuffer >> 20) MiB")
      }
    }
  }

  private func trim(_ line: Data) -> Data? {
    var line = line
    while let last = line.last, last == 0x0D || last == 0x20 { line = line.dropLast() }
    return line.isEmpty ? nil : Data(line.prefix(Self.longest))
  }
}
