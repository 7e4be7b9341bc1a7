// `admin topics`: the Kafka topics that a worker needs.

import ArgumentParsing
import Foundation
import KafkaClient
import Worker

struct AdminTopics: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "topics", abstract: "Kafka topics.",
    subcommands: [TopicsList.self, TopicsCreate.self], defaultSubcommand: TopicsList.self)
}

private struct TopicState: Encodable {
  let name: String
  let partitions: Int?
  let state: String
}

extension OutputOptions {
  fileprivate func print(_ topics: [TopicState]) throws {
    try print(
      topics, empty: "",
      columns: [
        .init("topic") { $0.name }, .init("partitions") { Show.optional($0.partitions) },
        .init("state") { $0.state },
      ])
  }
}

private func withKafka<T: Sendable>(
  _ options: ConfigurationOptions, _ body: (KafkaAdmin, WorkerConfiguration) async throws -> T
) async throws -> T {
  try await Failure.explain {
    let configuration = try options.load()
    var options = options
    if options.logLevel == .info { options.logLevel = .error }
    let admin = try KafkaAdmin(
      configuration: configuration.kafka.client, logger: options.makeLogger("admin"))
    do {
      let result = try await body(admin, configuration)
      await admin.close()
      return result
    } catch {
      await admin.close()
      throw error
    }
  }
}

struct TopicsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "The topics of this configuration, and whether they exist.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  func run() async throws {
    try await withKafka(options) { admin, configuration in
      let topics = configuration.topics(partitions: 1).map(\.name)
      let presence = try await admin.presence(of: topics)
      try format.print(
        topics.map { name in
          switch presence[name] {
          case .exists(let count): TopicState(name: name, partitions: count, state: "exists")
          case .hidden: TopicState(name: name, partitions: nil, state: "may not be seen")
          case .missing, nil: TopicState(name: name, partitions: nil, state: "missing")
          }
        })
    }
  }
}

/// What Kafka did not create.
private struct TopicsNotCreated: Error, CustomStringConvertible {
  let failures: [String: KafkaError]
  var description: String {
    let reasons = failures.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value.message)" }
    return "Kafka did not create \(reasons.joined(separator: "; "))"
      + (failures.values.contains(where: \.isForbidden)
        ? " (Create on the topics, or on the cluster, is missing)" : "")
  }
}

struct TopicsCreate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Create the topics that are missing.",
    discussion: "Without --execute it shows the plan. Existing topics are left as they are.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  @Option(name: .long, help: "Partitions of each topic: how many workers can share the load.")
  var partitions: Int32 = 6
  @Option(
    name: .long,
    help: "Copies of each partition (3 in a production cluster); by default the broker's own.")
  var replication: Int32?
  @Flag(name: .long, help: "Create them.") var execute = false

  func validate() throws {
    guard (1...10_000).contains(partitions), (1...100).contains(replication ?? 1) else {
      throw ValidationError("--partitions must be 1 to 10000 and --replication 1 to 100.")
    }
  }

  func run() async throws {
    try await withKafka(options) { admin, configuration in
      let wanted = configuration.topics(partitions: partitions, replication: replication ?? -1)
      let presence = try await admin.presence(of: wanted.map(\.name))
      func isThere(_ topic: NewTopic) -> Bool {
        if case .exists = presence[topic.name] { return true }
        return false
      }
      let missing = wanted.filter { !isThere($0) }
      var failures: [String: KafkaError] = [:]
      var others: Set<String> = []
      if execute, !missing.isEmpty {
        for (name, result) in try await admin.createTopics(missing) {
          switch result {
          case .created: break
          case .alreadyExists: others.insert(name)
          case .failed(let error): failures[name] = error
          }
        }
      }
      try format.print(
        wanted.map { topic in
          let exists = isThere(topic) || others.contains(topic.name)
          let state =
            exists
            ? "exists"
            : failures[topic.name] != nil ? "failed" : execute ? "created" : "to be created"
          return TopicState(
            name: topic.name, partitions: exists ? nil : Int(topic.partitions), state: state)
        })
      if !failures.isEmpty { throw TopicsNotCreated(failures: failures) }
      if !execute, !missing.isEmpty, format.output == .text {
        print("Nothing was created; run again with --execute.")
      }
    }
  }
}
