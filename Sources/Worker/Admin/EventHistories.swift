// The histories in a file of events, as a worker would store them, without a broker or a database.

import Foundation
import KafkaClient
import Personalization
import Storage

/// Users' events by task, from a file of JSON lines.
public struct EventHistories: Sendable {
  /// One user's events of one task that have an output, in the order of the file.
  public struct History: Sendable {
    public let userID: String
    public let task: String
    public fileprivate(set) var items: [HistoryItem]
  }

  /// A line that is not part of any history.
  public struct Note: Sendable {
    /// From 1.
    public let line: Int
    /// For people.
    public let problem: String
  }

  /// In the order of their first events.
  public private(set) var histories: [History] = []
  /// In the order of the file.
  public private(set) var notes: [Note] = []

  /// Reads and checks every line as ingest would. Events that ingest knows by their id come once; an erasure
  /// takes away what the user had before it.
  /// - Throws: where the file cannot be read.
  public init(path: String, catalogue: TaskCatalogue) throws {
    var decoder = EventDecoder(catalogue: catalogue)
    let file = try JSONLines(path)
    var places: [StreamID: Int] = [:]
    var known: [String: Set<String>] = [:]
    while let line = try file.next() {
      // A line without an id is called by its number.
      let message = KafkaMessage(
        topic: "line", partition: 0, offset: Int64(file.line), key: nil, value: line,
        timestamp: nil)
      let event: IncomingEvent
      do {
        switch try decoder.decode(message, now: Date()) {
        case .record(let found): event = found
        case .erase(let userID, _):
          for index in histories.indices where histories[index].userID == userID {
            histories[index].items = []
          }
          known[userID] = nil
          continue
        case .feedback:
          note(file.line, "feedback on an answer that is not in the file; left out")
          continue
        }
      } catch {
        note(file.line, (error as? MessageError)?.message ?? "\(error)")
        continue
      }
      guard known[event.stream.userID, default: []].insert(event.eventID).inserted else {
        note(file.line, "the event \(event.eventID) came before; left out")
        continue
      }
      guard let output = event.output else {
        note(file.line, "an event without an output; left out")
        continue
      }
      let place =
        places[event.stream]
        ?? {
          histories.append(
            History(userID: event.stream.userID, task: event.stream.task, items: []))
          return histories.count - 1
        }()
      places[event.stream] = place
      histories[place].items.append(
        HistoryItem(
          eventID: event.eventID, occurredAt: event.occurredAt,
          input: event.input.value.object ?? [:], output: output))
    }
    histories.removeAll { $0.items.isEmpty }
  }

  private mutating func note(_ line: Int, _ problem: String) {
    notes.append(Note(line: line, problem: problem))
  }
}
