// `oppu-worker dev`: everything in one process tree, for trying and for developing against.

import ArgumentParsing
import DevelopmentServers
import Foundation
import KafkaClient
import StructuredLogging
import Worker

struct Dev: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run everything here: private PostgreSQL, development broker, all roles.",
    discussion: """
      Data stays in --folder and is found again next time. The broker and the database listen on this machine \
      only, without passwords: for development, not for production. Ctrl-C stops all of it.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions

  @Option(name: .long, help: "Where the servers keep their data.", completion: .directory)
  var folder = ".oppu/dev"
  @Option(name: .long, help: "Port of the broker (0: any free one).") var kafkaPort = 9092
  @Option(name: .long, help: "Port of PostgreSQL (0: any free one).") var postgresPort = 5433
  @Option(name: .long, help: "The development broker's program.", completion: .file()) var broker =
    ".oppu/bin/noida-db"

  func validate() throws {
    // Silently using others would be worse than refusing.
    for (flag, value) in [("--kafka", options.kafka), ("--database", options.database)]
    where value != nil {
      throw ValidationError(
        "\(flag) does not go with dev, which starts its own; `oppu-worker run` takes yours.")
    }
  }

  func run() async throws {
    let logger = options.makeLogger("oppu-worker")
    try await Failure.explain {
      let home = URL(fileURLWithPath: folder).absoluteURL
      let postgres = try await PrivatePostgres.start(
        folder: home.appendingPathComponent("postgres"),
        port: postgresPort == 0 ? nil : postgresPort, logger: logger)
      do {
        let kafka = try await DevelopmentBroker.start(
          executable: URL(fileURLWithPath: broker).absoluteURL,
          folder: home.appendingPathComponent("broker"), port: kafkaPort == 0 ? nil : kafkaPort,
          logger: logger)
        do {
          // The development broker answers an empty fetch at once instead of holding it, and keeps the places of
          // static members that are gone for ever.
          let own = [
            "kafka.bootstrapServers": kafka.bootstrapServers,
            "database.url": postgres.connectionString, "kafka.idleRestMs": "200",
            "kafka.staticMembership": "false",
          ].mapValues { SettingText(text: $0, source: .flag("dev")) }
          let configuration = try options.layers(over: own).configuration()
          try await createTopics(configuration, logger: logger)
          logger.notice(
            "ready: Kafka at \(kafka.bootstrapServers), PostgreSQL at \(postgres.connectionString)")
          try await WorkerProcess(configuration: configuration, logger: logger).run()
        } catch {
          await kafka.stop()
          throw error
        }
        await kafka.stop()
      } catch {
        await postgres.stop()
        throw error
      }
      await postgres.stop()
    }
  }

  private func createTopics(_ configuration: WorkerConfiguration, logger: Logger) async throws {
    let admin = try KafkaAdmin(configuration: configuration.kafka.client, logger: logger)
    do {
      _ = try await admin.createTopics(configuration.topics(partitions: 3))
    } catch {
      await admin.close()
      throw error
    }
    await admin.close()
  }
}
