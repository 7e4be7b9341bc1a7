import Foundation
import Testing

@testable import ShiftBaselines
@testable import ShiftDetection

/// ADWIN and Page-Hinkley beside River's, by Fixtures/river_alarms.py.
@Suite struct RiverAlarmTests {
  struct Fixture: Decodable {
    let river: String
    let streams: [Stream]
    let cases: [Case]
  }

  struct Stream: Decodable {
    let kind: String
    let seed: UInt64
    let scale: Double?
    let levels: [[Double]]

    var values: [Double] {
      var x = seed
      func uniform() -> Double {
        x = 6_364_136_223_846_793_005 &* x &+ 1_442_695_040_888_963_407
        return Double(x >> 11) * 0x1p-53
      }
      return levels.flatMap { pair in
        (0..<Int(pair[0])).map { _ in
          guard kind == "normal" else { return uniform() < pair[1] ? 1 : 0 }
          var total = 0.0
          for _ in 0..<12 { total += uniform() }
          return (total - 6) * (scale ?? 1) + pair[1]
        }
      }
    }
  }

  struct Case: Decodable {
    let detector: String
    let parameters: Parameters
    let stream: Int
    let alarms: Int
    let firstAlarms: [Int]
    let sumOfAlarms: Int
  }

  struct Parameters: Decodable {
    let delta: Double?
    let clock: Int?
    let maxBuckets: Int?
    let minWindowLength: Int?
    let gracePeriod: Int?
    let threshold: Double?
    let mode: String?
    let minInstances: Int?
    let alpha: Double?
  }

  static func fixture() throws -> Fixture {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("Fixtures/river_alarms.json")
    return try decoder.decode(Fixture.self, from: Data(contentsOf: file))
  }

  static func adwin(_ parameters: Parameters) -> ADWIN {
    ADWIN(
      delta: parameters.delta ?? 0.002, clock: parameters.clock ?? 32,
      maximumBuckets: parameters.maxBuckets ?? 5,
      minimumWindowLength: parameters.minWindowLength ?? 5,
      gracePeriod: parameters.gracePeriod ?? 10)
  }

  static func pageHinkley(_ parameters: Parameters) -> PageHinkley {
    PageHinkley(
      minimumInstances: parameters.minInstances ?? 30, delta: parameters.delta ?? 0.005,
      threshold: parameters.threshold ?? 50, alpha: parameters.alpha ?? 1 - 0.0001,
      mode: parameters.mode == "up" ? .up : parameters.mode == "down" ? .down : .both)
  }

  @Test("ADWIN and Page-Hinkley raise the alarms of River's on fixed streams, value for value")
  func sameAlarms() throws {
    let fixture = try Self.fixture()
    #expect(fixture.cases.count == 60)
    let streams = fixture.streams.map(\.values)
    for example in fixture.cases {
      let alarms: [Int]
      if example.detector == "ADWIN" {
        var detector = Self.adwin(example.parameters)
        alarms = streams[example.stream].enumerated().filter { detector.update($0.element) }
          .map(\.offset)
      } else {
        var detector = Self.pageHinkley(example.parameters)
        alarms = streams[example.stream].enumerated().filter { detector.update($0.element) }
          .map(\.offset)
      }
      #expect(
        Array(alarms.prefix(40)) == example.firstAlarms,
        "\(example.detector) \(example.parameters) on stream \(example.stream)")
      #expect(alarms.count == example.alarms)
      #expect(alarms.reduce(0, +) == example.sumOfAlarms)
    }
  }

  @Test("KSWIN alarms as often as River's, which draws other random numbers")
  func kswin() {
    // River 0.26.1, 200 streams of 100 + 100 values of each kind: see docs/shift-detection.md.
    for (name, expected, isNormal) in [(".2 to .5", 0.475, false), ("+1 sigma", 0.98, true)] {
      var found = 0
      let trials = 200
      for trial in 0..<trials {
        var streams = Streams(seed: 40 + UInt64(trial))
        var detector = KSWIN(seed: UInt64(trial))
        var isFound = false
        for index in 0..<200 {
          let value =
            isNormal
            ? streams.normal(index < 100 ? 0 : 1) : streams.bernoulli(index < 100 ? 0.2 : 0.5)
          if detector.update(value), index >= 100 { isFound = true }
        }
        found += isFound ? 1 : 0
      }
      print("KSWIN, \(name), seed 40: \(found) of \(trials)")
      // Three standard deviations of the difference of two such shares.
      #expect(abs(Double(found) / Double(trials) - expected) < 0.15)
    }
  }

  @Test("the p-value of Kolmogorov and Smirnov is SciPy's")
  func kolmogorov() {
    // scipy.stats.ks_2samp, 30 values each, D = h / 30.
    for (h, p) in [(6, 0.5940706297759378), (10, 0.07088798787114439), (14, 0.0025300622362698397)]
    {
      #expect(abs(KSWIN.pValue(difference: h, size: 30) - p) < 1e-9)
    }
  }
}
