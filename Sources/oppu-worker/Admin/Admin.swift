// `oppu-worker admin`: what operators use. Noun, then verb.

import ArgumentParsing
import Foundation
import KafkaClient
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct Admin: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Look into a running system and steer it.",
    discussion: """
      Reads the same settings as `run` (--config, environment, --set). -o json gives everything there is; \
      tables show the essentials. Verbs that change something show their plan and need --execute.
      """,
    subcommands: [
      AdminStatus.self, AdminMigrate.self, AdminTopics.self, AdminUsers.self, AdminAdapters.self,
      AdminJobs.self, AdminQueue.self, AdminShifts.self, AdminTasks.self, AdminDoctor.self,
      AdminEvents.self, AdminDLQ.self, AdminOffsets.self, AdminLag.self,
    ])
}

/// A connection for one command: opened, checked, used, closed.
func withDatabase<T: Sendable>(
  _ options: ConfigurationOptions, checkSchema: Bool = true,
  _ body: (PostgresClient, WorkerConfiguration) async throws -> T
) async throws -> T {
  try await Failure.explain {
    let configuration = try options.load()
    var options = options
    if options.logLevel == .info { options.logLevel = .warning }
    let client = PostgresClient(
      PostgresConfiguration(
        configuration.database.url, maximumConnections: 3,
        applicationName: "oppu-worker admin"), logger: options.makeLogger("admin"))
    do {
      if checkSchema { try await Migrator(client: client).check() }
      let result = try await body(client, configuration)
      await client.close()
      return result
    } catch {
      await client.close()
      throw error
    }
  }
}

/// Asks for a sign of life before messages are handed to a producer, which says only that it waited in vain.
/// - Throws: `KafkaError` naming the addresses, within ten seconds.
func requireBroker(_ configuration: WorkerConfiguration) async throws {
  let admin = try KafkaAdmin(configuration: configuration.kafka.client)
  do {
    try await admin.ping(timeout: .seconds(10))
    await admin.close()
  } catch {
    await admin.close()
    throw error
  }
}

/// Which user and task a list is about.
struct StreamFilter: ParsableArguments {
  @Option(name: .long, help: "Only this user.") var user: String?
  @Option(name: .long, help: "Only this task.", completion: .taskNames) var task: String?
}
