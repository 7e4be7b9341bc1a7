// What is refused of a librdkafka that cannot do it.

import StructuredLogging
import Testing

@testable import KafkaClient

@Suite("librdkafka's version") struct KafkaLibraryTests {
  @Test(
    "cooperative-sticky is refused before 2.3.0 with a sentence that names both versions",
    arguments: [
      (0x0200_02ff, false), (0x0202_00ff, false), (0x0203_00ff, true), (0x0210_00ff, true),
    ])
  func incrementalRebalances(_ number: Int32, _ isTaken: Bool) throws {
    let library = KafkaLibrary(number: number)
    #expect(library.supportsIncrementalRebalances == isTaken)
    for strategy in ["cooperative-sticky", "range,cooperative-sticky"] {
      let problem = library.problem(with: ["partition.assignment.strategy": strategy])
      #expect((problem == nil) == isTaken)
      if let problem {
        #expect(problem.contains(strategy) && problem.contains("librdkafka 2.3.0 or newer"))
        #expect(problem.contains("this is \(library),"))
      }
    }
    #expect(library.problem(with: ["partition.assignment.strategy": "range"]) == nil)
    #expect(library.problem(with: [:]) == nil)
  }

  @Test("A version is written as librdkafka's releases are", arguments: [0x0200_02ff])
  func description(_ number: Int32) {
    #expect("\(KafkaLibrary(number: number))" == "2.0.2")
  }

  @Test("Every kind of client refuses what the library at hand cannot do, before it connects")
  func everyClient() {
    guard !KafkaLibrary.current.supportsIncrementalRebalances else { return }
    let configuration = KafkaConfiguration(
      bootstrapServers: "localhost:1",
      properties: ["partition.assignment.strategy": "cooperative-sticky"])
    #expect(throws: KafkaError.self) { try KafkaAdmin(configuration: configuration) }
    #expect(throws: KafkaError.self) { try KafkaProducer(configuration: configuration) }
    #expect(throws: KafkaError.self) {
      try KafkaConsumer(configuration: configuration, group: "g", topics: ["t"])
    }
  }
}
