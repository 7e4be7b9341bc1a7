// `admin offsets` and `admin lag`: where ingest stands, how far behind, and putting it elsewhere.

import ArgumentParsing
import Foundation
import KafkaClient
import PostgresClient
import Storage
import Worker

struct AdminOffsets: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "offsets", abstract: "Where ingest stands in each partition.",
    subcommands: [OffsetsShow.self, OffsetsReset.self], defaultSubcommand: OffsetsShow.self)
}

/// One partition as PostgreSQL and the broker see it.
struct PartitionPosition: Encodable {
  let partition: Int32
  /// Nil: nothing was read yet.
  let next: Int64?
  let first: Int64
  let end: Int64
  /// What Kafka was told; advisory.
  let committed: Int64?
  /// Messages that are known to have been lost or passed over.
  let missing: Int64
  /// Why the offset does not fit the topic.
  let gap: LogGap?
  let updatedAt: Date?
  /// Messages that wait. Where the offset belongs to another log, all of this one do.
  let lag: Int64
  /// Of these, behind the beginning of a transaction that is open.
  let held: Int64

  /// What is to be said of a partition that waits.
  func sentence(_ topic: String) -> String? {
    gap.map {
      "\(topic)-\(partition): \($0.description). To read what there is: \($0.command(partition: partition))"
    }
  }

  static func all(
    _ configuration: WorkerConfiguration, client: PostgresClient
  ) async throws -> [PartitionPosition] {
    let kafka = configuration.kafka
    let repository = IngestRepository(client)
    let stored = Dictionary(
      try await repository.partitions().filter { $0.topic == kafka.behaviorTopic }
        .map { ($0.partition, $0) }, uniquingKeysWith: { $1 })
    let standing = try await repository.standing(topic: kafka.behaviorTopic).map(\.claim.position)
    return try await withAdmin(kafka) { admin in
      let topics = try await admin.listTopics()
      guard let topic = topics.first(where: { $0.name == kafka.behaviorTopic }) else {
        throw StartError.missingTopics([kafka.behaviorTopic])
      }
      let partitions = (0..<Int32(topic.partitionCount)).map {
        TopicPartition(topic: topic.name, partition: $0)
      }
      let group = "\(kafka.groupPrefix)-ingest"
      let committed = (try? await admin.committedOffsets(group: group, of: partitions)) ?? [:]
      // What the log shows now, whether a worker runs that would have seen it or not.
      let gaps = try await LogCheck.gaps(
        of: standing.filter { $0.partition < topic.partitionCount }, kafka: kafka, group: group)
      func next(_ partition: TopicPartition) -> Int64? {
        stored[partition.partition].flatMap { $0.nextOffset < 0 ? nil : $0.nextOffset }
      }
      let backlogs = try await Backlog.all(
        Dictionary(partitions.map { ($0, next($0)) }, uniquingKeysWith: { $1 }), kafka: kafka,
        group: group)
      return partitions.compactMap { partition in
        guard let backlog = backlogs[partition] else { return nil }
        let own = stored[partition.partition]
        let gap = gaps[partition]
        return PartitionPosition(
          partition: partition.partition, next: next(partition), first: backlog.low,
          end: backlog.high, committed: committed[partition]?.next,
          missing: (own?.missing ?? 0) - (own?.gap?.missing ?? 0) + (gap?.missing ?? 0), gap: gap,
          updatedAt: own?.updatedAt,
          lag: gap?.isOtherLog == true ? backlog.high - backlog.low : backlog.count,
          held: backlog.held)
      }
    }
  }
}

private func withAdmin<T: Sendable>(
  _ kafka: WorkerConfiguration.Kafka, _ body: (KafkaAdmin) async throws -> T
) async throws -> T {
  let admin = try KafkaAdmin(configuration: kafka.client)
  do {
    let result = try await body(admin)
    await admin.close()
    return result
  } catch {
    await admin.close()
    throw error
  }
}

/// Says below a table which partitions wait.
private func say(_ positions: [PartitionPosition], topic: String) {
  for sentence in positions.compactMap({ $0.sentence(topic) }) { print(sentence) }
}

struct OffsetsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "PostgreSQL's offset, the broker's, and what Kafka was told.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let positions = try await PartitionPosition.all(configuration, client: client)
      try format.print(
        positions, empty: "The topic has no partitions.",
        columns: [
          .init("partition") { "\($0.partition)" }, .init("next offset") { Show.optional($0.next) },
          .init("broker has") { "\($0.first) to \($0.end)" },
          .init("committed to Kafka") { Show.optional($0.committed) },
          .init("missing") { "\($0.missing)" },
          .init("state") { $0.gap.map { "waits: \($0.kind.rawValue)" } ?? "fits" },
          .init("updated") { Show.time($0.updatedAt) },
        ])
      if format.output == .text { say(positions, topic: configuration.kafka.behaviorTopic) }
    }
  }
}

struct OffsetsReset: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reset", abstract: "Let ingest continue elsewhere.",
    discussion: """
      Read again: events that are stored are dropped by their ids. Go forward: what is passed over is not read. A \
      partition that waits because its offset fits the topic no longer goes on from there. A worker that has the \
      partition notices within seconds. Without --execute it shows the plan.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Option(name: .long, help: "Only this partition; may be repeated.") var partition: [Int32] = []
  @Option(name: .long, help: "beginning, end or an offset.") var to: String
  @Flag(name: .long, help: "Do it.") var execute = false

  private struct Step: Encodable {
    let partition: Int32
    let from: Int64?
    let to: Int64
    let state: String
  }

  func validate() throws {
    guard ["beginning", "end"].contains(to) || Int64(to).map({ $0 >= 0 }) == true else {
      throw ValidationError("--to takes beginning, end or an offset.")
    }
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let all = try await PartitionPosition.all(configuration, client: client)
      let chosen = all.filter { partition.isEmpty || partition.contains($0.partition) }
      if let unknown = partition.first(where: { number in !all.contains { $0.partition == number } }
      ) {
        Failure.say("the topic has no partition \(unknown)")
        throw ExitCode.failure
      }
      var targets: [Int32: Int64] = [:]
      for position in chosen {
        let target =
          to == "beginning" ? position.first : to == "end" ? position.end : Int64(to) ?? 0
        guard (position.first...position.end).contains(target) else {
          Failure.say(
            "partition \(position.partition) has offsets \(position.first) to \(position.end); \(target) is not among them"
          )
          throw ExitCode.failure
        }
        targets[position.partition] = target
      }
      if execute {
        try await IngestRepository(client).reset(
          topic: configuration.kafka.behaviorTopic, offsets: targets,
          gaps: Dictionary(
            chosen.compactMap { position in position.gap.map { (position.partition, $0) } },
            uniquingKeysWith: { $1 }))
      }
      try format.print(
        chosen.map { position in
          Step(
            partition: position.partition, from: position.next,
            to: targets[position.partition] ?? 0, state: execute ? "reset" : "to be reset")
        }, empty: "There are no such partitions.",
        columns: [
          .init("partition") { "\($0.partition)" }, .init("from") { Show.optional($0.from) },
          .init("to") { "\($0.to)" }, .init("state") { $0.state },
        ])
      if !execute, format.output == .text {
        print("Nothing was changed; run again with --execute.")
      }
    }
  }
}

struct AdminLag: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lag", abstract: "Messages that wait: events for ingest, requests for infer.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  private struct Row: Encodable {
    let topic: String
    let partition: Int32
    let next: Int64?
    let end: Int64
    let lag: Int64
    /// Of these, behind the beginning of a transaction that is open.
    let held: Int64
    let missing: Int64
    let gap: LogGap?
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let kafka = configuration.kafka
      let positions = try await PartitionPosition.all(configuration, client: client)
      var rows = positions.map {
        Row(
          topic: kafka.behaviorTopic, partition: $0.partition, next: $0.next, end: $0.end,
          lag: $0.lag, held: $0.held, missing: $0.missing, gap: $0.gap)
      }
      rows += try await withAdmin(kafka) { admin in
        let count = try await admin.listTopics().first { $0.name == kafka.requestTopic }?
          .partitionCount
        let partitions = (0..<Int32(count ?? 0)).map {
          TopicPartition(topic: kafka.requestTopic, partition: $0)
        }
        let group = "\(kafka.groupPrefix)-infer"
        let committed = try await admin.committedOffsets(group: group, of: partitions)
        let gaps = try await LogCheck.gaps(
          of: partitions.map { LogPosition($0, committed: committed[$0]) }, kafka: kafka,
          group: group)
        let backlogs = try await Backlog.all(
          Dictionary(
            partitions.map { ($0, gaps[$0]?.isOtherLog == true ? nil : committed[$0]?.next) },
            uniquingKeysWith: { $1 }),
          kafka: kafka, group: group)
        return partitions.compactMap { partition in
          backlogs[partition].map {
            Row(
              topic: partition.topic, partition: partition.partition,
              next: committed[partition]?.next, end: $0.high, lag: $0.count, held: $0.held,
              missing: gaps[partition]?.missing ?? 0, gap: gaps[partition])
          }
        }
      }
      try format.print(
        rows, empty: "There are no partitions.",
        columns: [
          .init("topic") { $0.topic }, .init("partition") { "\($0.partition)" },
          .init("next offset") { Show.optional($0.next) }, .init("end") { "\($0.end)" },
          .init("lag") { "\($0.lag)" }, .init("missing") { "\($0.missing)" },
        ])
      if format.output == .text {
        say(positions, topic: kafka.behaviorTopic)
        for row in rows where row.topic == kafka.requestTopic {
          if let gap = row.gap {
            print(
              "\(row.topic)-\(row.partition): \(gap.description). A worker begins with the first that it may not have answered."
            )
          }
        }
        for row in rows where row.held > 0 {
          print(
            "\(row.topic)-\(row.partition): \(row.held) of them wait behind a transaction that is open since offset \(row.end - row.held)."
          )
        }
        print("\(rows.reduce(0) { $0 + $1.lag }) messages wait.")
      }
    }
  }
}
