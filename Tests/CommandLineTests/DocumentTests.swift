// Documents for programs and the values of options: one form of keys, nothing left out, times of the past.

import ArgumentParsing
import FineTuning
import Foundation
import JSON
import Personalization
import Testing

@testable import oppu_worker

@Suite struct DocumentTests {
  private struct Part: Encodable {
    let weightsSHA256: String
    let isCut: Bool
    let input: JSONValue
  }

  private struct Sample: Encodable {
    let userID: String
    let nothing: Int?
    let zero: Int64
    let large: Int64
    let loss: Double
    let when: Date?
    let parts: [Part]
    let counts: [String: Int]
    let headers: [String: String]
  }

  @Test(
    "names of fields are in snake_case, zeros and nulls are there, what users wrote is untouched")
  func form() throws {
    let value = Sample(
      userID: "kim", nothing: nil, zero: 0, large: 9_007_199_254_740_993, loss: .nan, when: nil,
      parts: [Part(weightsSHA256: "x", isCut: false, input: ["camelCase": .null])],
      counts: ["filmTag": 0], headers: ["kafka_replyTopic": "t"])
    #expect(
      try OutputOptions.json(value, pretty: false)
        == #"{"counts":{"filmTag":0},"headers":{"kafka_replyTopic":"t"},"large":9007199254740993,"#
        + #""loss":null,"nothing":null,"parts":[{"input":{"camelCase":null},"is_cut":false,"#
        + #""weights_sha256":"x"}],"user_id":"kim","when":null,"zero":0}"#)
    for (key, name) in [
      "userID": "user_id", "job_id": "job_id", "weightsSHA256": "weights_sha256", "id": "id",
      "timing_ms": "timing_ms", "isAlarm": "is_alarm",
    ] { #expect(DocumentEncoder.name(key) == name) }
  }

  @Test("a training's setting that is out of range is wrong use, shown with the command's usage")
  func wrongUse() async throws {
    var settings = TrainingConfiguration(method: .lora)
    settings.rank = 0
    let error = await #expect(throws: ValidationError.self) {
      try await Failure.explain { try settings.validate() }
    }
    #expect(error?.message.contains("rank must be 1 to 1024, not 0") == true)
    #expect(OPPUWorker.exitCode(for: try #require(error)) == .validationFailure)
  }

  @Test("times of the past are exact, or how long ago")
  func past() {
    let now = Date(timeIntervalSince1970: 1_000_000)
    for (text, seconds) in ["90s": 90.0, "30m": 1_800, "1h": 3_600, "7d": 604_800, "0h": 0] {
      #expect(PastTime.date(text, now: now) == now.addingTimeInterval(-seconds))
    }
    #expect(PastTime.date("1970-01-02T00:00:00Z", now: now) == Date(timeIntervalSince1970: 86_400))
    for text in ["", "h", "-1h", "1.5h", "soon", "1y", "1h30m"] {
      #expect(PastTime.date(text, now: now) == nil, "\(text)")
    }
  }
}
