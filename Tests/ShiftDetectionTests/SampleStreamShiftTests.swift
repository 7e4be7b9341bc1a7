import Foundation
import TestSupport
import Testing

@testable import ShiftDetection

/// The project's sample stream, watched without a model: by what users do alone.
@Suite struct SampleStreamShiftTests {
  struct Event: Decodable {
    let eventId: String
    let userId: String
    let task: String
    let input: [String: String]
    let output: Output

    enum Output: Decodable {
      case number(Double)
      case text(String)

      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        self =
          if let number = try? container.decode(Double.self) {
            .number(number)
          } else {
            .text(try container.decode(String.self))
          }
      }
    }

    var observation: Observation {
      let observed: ObservedOutput =
        switch (output, task) {
        case (.number(let rating), _): .rating(rating)
        case (.text(let label), "film_tag"): .label(label)
        case (.text(let text), _): .text(text)
        }
      return Observation(output: observed, input: input.values.joined(separator: " "))
    }
  }

  struct Truth: Decodable {
    struct Shift: Decodable {
      let userId: String
      let eventId: String
    }
    let shifts: [Shift]
  }

  @Test(
    "every planted shift of the sample is found without a model, and users who do not shift stay quiet"
  )
  func sample() throws {
    let folder = Paths.root.appending(path: "examples/sample")
    let lines = try String(
      contentsOf: folder.appendingPathComponent("events.jsonl"), encoding: .utf8)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let events = try lines.split(separator: "\n").map {
      try decoder.decode(Event.self, from: Data($0.utf8))
    }
    let truth = try decoder.decode(
      Truth.self, from: Data(contentsOf: folder.appendingPathComponent("truth.json")))
    for (user, stream) in Dictionary(grouping: events, by: \.userId).sorted(by: { $0.key < $1.key }
    ) {
      var monitor = ShiftMonitor()
      var alarms: [(at: Int, signal: Signal)] = []
      for (index, event) in stream.enumerated() {
        let raised = monitor.observe(event.observation).filter { $0.isAlarm }
        alarms += raised.map { (index, $0) }
      }
      for (at, signal) in alarms {
        print(
          "\(user) at \(at), change at \(signal.changeIndex ?? -1): \(signal.explanation)")
      }
      guard let shift = truth.shifts.first(where: { $0.userId == user }) else {
        #expect(alarms.isEmpty, "\(user) does not shift")
        continue
      }
      let planted = try #require(stream.firstIndex { $0.eventId == shift.eventId })
      let alarm = try #require(alarms.first, "\(user) shifts")
      #expect(alarm.at >= planted && alarm.at < planted + 14)
      #expect(abs((alarm.signal.changeIndex ?? 0) - planted) <= 4)
      #expect(alarms.allSatisfy { $0.at >= planted })
    }
  }
}
