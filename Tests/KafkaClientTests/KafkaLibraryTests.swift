// What is refused of a librdkafka that cannot do it.

import Foundation
import StructuredLogging
import TestSupport
import Testing

@testable import KafkaClient

@Suite("librdkafka's version") struct KafkaLibraryTests {
  private let policy = KafkaLibraryPolicy.standard
  private let versions = [
    KafkaLibrary(1, 8, 0), KafkaLibrary(2, 0, 2), KafkaLibrary(2, 2, 0), KafkaLibrary(2, 3, 0),
    KafkaLibrary(2, 6, 0), KafkaLibrary(2, 6, 1), KafkaLibrary(2, 8, 0), KafkaLibrary(2, 11, 1),
    KafkaLibrary(2, 12, 0), KafkaLibrary(2, 16, 0),
  ]

  @Test("each version is refused what it cannot do, with a sentence that names both versions")
  func thresholds() {
    for library in versions.dropFirst() {
      for (properties, needed) in [
        (["partition.assignment.strategy": "cooperative-sticky"], KafkaLibrary(2, 3, 0)),
        (["partition.assignment.strategy": "range,cooperative-sticky"], KafkaLibrary(2, 3, 0)),
        (["group.protocol": "consumer"], KafkaLibrary(2, 12, 0)),
        (["group.protocol": "CONSUMER"], KafkaLibrary(2, 12, 0)),
      ] {
        let problem = policy.problem(of: library, with: properties)
        #expect((problem == nil) == (library >= needed), "\(library) \(properties)")
        if let problem, let (name, value) = properties.first.map({ ($0.key, $0.value) }) {
          #expect(problem.lowercased().contains("\(name)=\(value.lowercased())"))
          #expect(problem.contains("librdkafka \(needed) or newer"))
          #expect(problem.contains("this is \(library),"))
        }
      }
      #expect(
        policy.isScramLimited(of: library, with: ["sasl.mechanisms": "SCRAM-SHA-512"])
          == (library < KafkaLibrary(2, 6, 1)))
      #expect(!policy.isScramLimited(of: library, with: ["sasl.mechanism": "PLAIN"]))
      for properties in [
        ["partition.assignment.strategy": "range"], ["group.protocol": "classic"], [:],
      ] { #expect(policy.problem(of: library, with: properties) == nil) }
    }
  }

  @Test("a version older than the oldest is refused whatever is asked")
  func oldest() throws {
    let problem = try #require(policy.problem(of: versions[0], with: [:]))
    #expect(problem.contains("librdkafka 1.8.0") && problem.contains("2.0.2 or newer"))
  }

  @Test("a version is written as librdkafka's releases are", arguments: [0x0200_02ff])
  func description(_ number: Int32) {
    #expect("\(KafkaLibrary(number: number))" == "2.0.2")
    #expect(KafkaLibrary(2, 0, 2).number == number)
  }

  @Test("the summary names what a version lacks, and nothing for one that lacks nothing")
  func summary() {
    #expect(policy.summary(of: KafkaLibrary(2, 16, 0)) == "2.16.0")
    let old = policy.summary(of: KafkaLibrary(2, 0, 2))
    #expect(old.hasPrefix("2.0.2; ") && old.contains("SCRAM") && old.contains("2.8.0 or newer"))
    #expect(!policy.summary(of: KafkaLibrary(2, 8, 0)).contains("recommended"))
  }

  @Test(
    "the table of the documentation has every threshold, the oldest and the recommended version")
  func documented() throws {
    let page = try String(
      contentsOf: Paths.root.appending(path: "docs/operating.md"), encoding: .utf8)
    let rows = page.split(separator: "\n").filter { $0.hasPrefix("|") }
      .map { $0.replacing("`", with: "") }
    for (what, version) in policy.thresholds.map({ ($0.what, $0.needed) })
      + [("oldest supported", policy.oldest), ("recommended", policy.recommended)]
    {
      #expect(
        rows.contains { $0.contains(what) && $0.contains("| \(version) |") }, "\(what) \(version)")
    }
  }

  @Test("every kind of client refuses what the library at hand cannot do, before it connects")
  func everyClient() {
    guard let impossible = policy.thresholds.last, KafkaLibrary.current < impossible.needed else {
      return
    }
    let configuration = KafkaConfiguration(
      bootstrapServers: "localhost:1", properties: ["group.protocol": "consumer"])
    let attempts: [() throws -> Void] = [
      { _ = try KafkaAdmin(configuration: configuration) },
      { _ = try KafkaProducer(configuration: configuration) },
      { _ = try KafkaConsumer(configuration: configuration, group: "g", topics: ["t"]) },
      { try configuration.check() },
    ]
    for attempt in attempts {
      let error = #expect(throws: KafkaError.self) { try attempt() }
      #expect(error?.isSetting == true)
      #expect(error?.message.contains("librdkafka 2.12.0 or newer") == true)
    }
  }
}
