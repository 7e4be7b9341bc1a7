// Apache Kafka with passwords, certificates and rights, and what is said where one of them is wrong. Tried where
// OPPU_TEST_KAFKA is set, for the stand-in has none of that.

import DevelopmentServers
import Foundation
import KafkaClient
import PostgresClient
import TestSupport
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized, .enabled(if: OutsideServers.kafka != nil, "OPPU_TEST_KAFKA is not set"))
  struct Security {
    /// The worker's settings for one of the broker's ways in.
    private func settings(_ place: String, _ properties: [String: String]) async throws
      -> [String: String]
    {
      let servers = try #require(try await Servers.sharedBroker().places[place])
      return [
        "OPPU_KAFKA_BOOTSTRAP_SERVERS": servers,
        "OPPU_KAFKA_PROPERTIES": properties.map { "\($0)=\($1)" }.joined(separator: ","),
      ]
    }

    private func login(
      _ user: String, password: String? = nil, by mechanism: String = "PLAIN"
    ) async throws -> [String: String] {
      try await settings(
        "KAFKA_SASL",
        [
          "security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": mechanism,
          "sasl.username": user, "sasl.password": password ?? "\(user)-secret",
        ])
    }

    /// Expects that a command, the doctor and a worker all end within ten seconds with the same cause.
    private func expectRefusal(
      _ words: String, with settings: [String: String], location: SourceLocation = #_sourceLocation
    ) async throws {
      try await Rig.with { rig in
        for (command, code) in [
          (["topics", "list"], Int32(1)), (["doctor", "-o", "jsonl"], 3), (["run"], 1),
        ] {
          let begin = ContinuousClock.now
          let found: (code: Int32, output: String)
          if command == ["run"] {
            let worker = try await rig.startWorker(
              settings.merging(["OPPU_ROLES": "ingest"]) { $1 })
            found = (await worker.waitForEnd() >> 8 & 0xff, rig.log())
          } else {
            found = try await rig.admin(command, settings: settings)
          }
          let time = ContinuousClock.now - begin
          // The doctor measures this machine and hashes the model as well.
          #expect(time < .seconds(command[0] == "doctor" ? 20 : 10), sourceLocation: location)
          #expect(found.code == code, "\(command): \(found.output)", sourceLocation: location)
          #expect(
            found.output.contains(words), "\(command): \(found.output)", sourceLocation: location)
          #expect(
            !found.output.contains("transport failure"), "\(command)", sourceLocation: location)
        }
      }
    }

    @Test("a wrong password ends at once, with that sentence")
    func wrongPassword() async throws {
      try await expectRefusal(
        "Invalid username or password", with: try await login("oppu", password: "wrong"))
    }

    @Test("SCRAM works, but for a librdkafka that cannot at Kafka 4: then the versions are named")
    func scram() async throws {
      let isOld = ProcessInfo.processInfo.environment["OPPU_TEST_KAFKA_VERSION"]?.hasPrefix("3")
      for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let settings = try await login("admin", by: mechanism)
        if isOld != true,
          "\(KafkaLibrary.current)".compare("2.6.1", options: .numeric) == .orderedAscending
        {
          try await expectRefusal("needs librdkafka 2.6.1 or newer; this is", with: settings)
        } else {
          try await Rig.with { rig in
            let found = try await rig.admin(["topics", "list"], settings: settings)
            #expect(found.code == 0, "\(found.output)")
          }
        }
      }
    }

    @Test("an authority, a port or a client's certificate that is not right is named")
    func certificates() async throws {
      let folder = try #require(try await Servers.sharedBroker().places["KAFKA_TLS_FOLDER"])
      try await expectRefusal(
        "name it by ssl.ca.location",
        with: try await settings("KAFKA_TLS", ["security.protocol": "SSL"]))
      try await expectRefusal(
        "refuses this client's certificate",
        with: try await settings(
          "KAFKA_TLS",
          [
            "security.protocol": "SSL", "ssl.ca.location": "\(folder)/ca.pem",
            "ssl.certificate.location": "\(folder)/other.pem",
            "ssl.key.location": "\(folder)/other.key",
          ]))
      try await Rig.with { rig in
        let plain = try await rig.admin(
          ["topics", "list"], settings: try await settings("KAFKA_TLS", [:]))
        #expect(plain.code == 1 && plain.output.contains("security.protocol"), "\(plain.output)")
      }
    }

    @Test(
      "topics that may not be seen and groups that may not be used are named, and end a worker at its start"
    )
    func rights() async throws {
      let broker = try await Servers.sharedBroker()
      try await Rig.with { rig in
        let kafka = rig.kafka
        let letters = "\(kafka.behaviorTopic)-dlt"
        let topics = [
          kafka.behaviorTopic, kafka.requestTopic, kafka.replyTopic, kafka.adapterEventTopic,
          letters, "\(kafka.requestTopic)-dlt",
        ]
        func allow(_ operations: [String], _ resources: [String]) async throws {
          try await broker.run(
            "acls",
            ["--add", "--allow-principal", "User:oppu"]
              + operations.flatMap { ["--operation", $0] } + resources)
        }
        let settings = try await login("oppu").merging(["OPPU_ROLES": "ingest"]) { $1 }
        func endsAtStart(_ words: String) async throws {
          let log = "\(UUID().uuidString).log"
          let worker = try await rig.startWorker(settings, log: log)
          #expect(ChildProcess.describe(await worker.waitForEnd()) == "exit code 1")
          #expect(rig.log(log).contains(words), "\(rig.log(log))")
        }
        let list = try await rig.admin(["topics", "list"], settings: settings)
        #expect(list.output.components(separatedBy: "may not be seen").count == 7, "\(list.output)")
        let create = try await rig.admin(["topics", "create", "--execute"], settings: settings)
        #expect(create.code == 1 && create.output.contains("Kafka did not create"))
        #expect(create.output.contains("Authorization failed"), "\(create.output)")
        try await endsAtStart("does not let this user see \(topics.joined(separator: ", "))")
        try await allow(["Describe"], topics.flatMap { ["--topic", $0] })
        try await endsAtStart("does not let this user use the group \(kafka.groupPrefix)-ingest")
      }
    }

    /// The commands of the documentation that give a worker its rights, for a rig's topics and groups.
    private func documentedRights(_ kafka: WorkerConfiguration.Kafka) throws -> [[String]] {
      let names = [
        "user-behavior": kafka.behaviorTopic, "user-behavior-dlt": "\(kafka.behaviorTopic)-dlt",
        "personalization-requests": kafka.requestTopic,
        "personalization-requests-dlt": "\(kafka.requestTopic)-dlt",
        "personalization-replies": kafka.replyTopic, "adapter-events": kafka.adapterEventTopic,
        "oppu-ingest": "\(kafka.groupPrefix)-ingest", "oppu-infer": "\(kafka.groupPrefix)-infer",
      ]
      let page = try String(
        contentsOf: Paths.root.appending(path: "docs/operating.md"), encoding: .utf8)
      return page.replacing("\\\n", with: " ").split(separator: "\n")
        .filter { $0.hasPrefix("$acl ") }
        .map { line in
          ["--add", "--allow-principal", "User:oppu"]
            + line.split(separator: " ").dropFirst().map { names[String($0)] ?? String($0) }
        }
    }

    @Test("with exactly the rights that the documentation gives, a worker does all its work")
    func leastRights() async throws {
      let broker = try await Servers.sharedBroker()
      try await Rig.with { rig in
        let kafka = rig.kafka
        let rights = try documentedRights(kafka)
        #expect(rights.count == 3)
        for right in rights { try await broker.run("acls", right) }
        let settings = try await login("oppu")
        let worker = try await rig.startWorker(settings)
        let event = #"{"user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#
        try await rig.produce(event, key: "kim")
        try await rig.produce("no event", key: "kim")
        try await rig.produce(
          #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#, key: "kim",
          to: kafka.requestTopic)
        try await rig.waitForIngest(messages: 2)
        #expect(try await rig.read("\(kafka.behaviorTopic)-dlt", count: 1).count == 1)
        let reply = try #require(try await rig.read(kafka.replyTopic, count: 1).first).json()
        #expect(reply["status"] == "ok")
        let erasure = try await rig.admin(
          ["users", "erase", "kim", "--execute"], settings: settings)
        #expect(
          erasure.code == 0 && erasure.output.contains("2 partitions were told"),
          "\(erasure.output)")
        let told = try await rig.read(kafka.adapterEventTopic, count: 1)
        #expect(try told.first?.json()["kind"] == "erased")
        await rig.stop(worker)
      }
    }

    @Test("a worker comes in by password, token or certificate, with TLS and without")
    func waysIn() async throws {
      let broker = try await Servers.sharedBroker()
      let folder = try #require(broker.places["KAFKA_TLS_FOLDER"])
      let authority = ["ssl.ca.location": "\(folder)/ca.pem"]
      let password = [
        "sasl.mechanisms": "PLAIN", "sasl.username": "oppu", "sasl.password": "oppu-secret",
      ]
      let token = [
        "sasl.mechanisms": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true",
        "sasl.oauthbearer.config": "principal=oppu",
      ]
      let certificate = [
        "ssl.certificate.location": "\(folder)/client.pem",
        "ssl.key.location": "\(folder)/client.key",
      ]
      let ways: [(place: String, protocol: String, properties: [String: String])] = [
        ("KAFKA_SASL", "SASL_PLAINTEXT", password),
        ("KAFKA_SASL", "SASL_PLAINTEXT", token),
        ("KAFKA_SASL_TLS", "SASL_SSL", password.merging(authority) { $1 }),
        ("KAFKA_SASL_TLS", "SASL_SSL", token.merging(authority) { $1 }),
        ("KAFKA_TLS", "SSL", certificate.merging(authority) { $1 }),
      ]
      try await Rig.with(partitions: 1) { rig in
        for right in try documentedRights(rig.kafka) {
          for user in ["User:oppu", "User:CN=oppu"] {
            try await broker.run("acls", right.map { $0 == "User:oppu" ? user : $0 })
          }
        }
        for (number, way) in ways.enumerated() {
          let log = "\(number).log"
          let worker = try await rig.startWorker(
            try await settings(
              way.place, way.properties.merging(["security.protocol": way.protocol]) { $1 }
            ).merging(["OPPU_ROLES": "ingest,infer"]) { $1 }, log: log)
          try await rig.produce(
            #"{"user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#,
            key: "kim")
          try await rig.produce(
            #"{"request_id":"\#(number)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
            key: "kim", to: rig.kafka.requestTopic)
          try await eventually("the event is stored", state: rig.log(log)) {
            try await rig.client.number("SELECT count(*) FROM behavior_events") == number + 1
          }
          try await rig.waitForMessages(rig.kafka.replyTopic, count: number + 1)
          await rig.stop(worker)
        }
      }
    }

    @Test("a right to read that is missing is named again and again; given, nothing is lost")
    func missingRead() async throws {
      let broker = try await Servers.sharedBroker()
      try await Rig.with { rig in
        let kafka = rig.kafka
        let rights = try documentedRights(kafka)
        for right in rights where !right.contains(kafka.requestTopic) {
          try await broker.run("acls", right)
        }
        try await broker.run(
          "acls",
          ["--add", "--allow-principal", "User:oppu", "--operation", "Describe"]
            + [kafka.behaviorTopic, kafka.requestTopic].flatMap { ["--topic", $0] })
        let worker = try await rig.startWorker(
          try await login("oppu").merging(["OPPU_ROLES": "ingest,infer"]) { $1 })
        try await rig.produce(
          #"{"user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#, key: "kim")
        try await rig.produce(
          #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#, key: "kim",
          to: kafka.requestTopic)
        try await eventually("both are named twice", state: rig.log()) {
          [kafka.behaviorTopic, kafka.requestTopic].allSatisfy {
            rig.count("the right Read on \($0) is missing") >= 2 * 2
          }
        }
        for right in rights { try await broker.run("acls", right) }
        try await rig.waitForIngest(messages: 1)
        let reply = try #require(try await rig.read(kafka.replyTopic, count: 1).first).json()
        #expect(reply["status"] == "ok")
        await rig.stop(worker)
      }
    }

    /// One right on one topic or group.
    private struct Right {
      let operation: String
      let kind: String
      let name: String

      /// The rights that commands of the documentation give.
      static func all(in commands: [[String]]) -> [Right] {
        commands.flatMap { words in
          let operation = words.firstIndex(of: "--operation").map { words[$0 + 1] } ?? ""
          return zip(words, words.dropFirst()).compactMap { kind, name in
            ["--topic", "--group"].contains(kind)
              ? Right(operation: operation, kind: kind, name: name) : nil
          }
        }
      }

      func change(_ change: String, on broker: DevelopmentBroker, operation: String? = nil)
        async throws
      {
        try await broker.run(
          "acls",
          [change, "--allow-principal", "User:oppu", "--operation", operation ?? self.operation]
            + [kind, name] + (change == "--remove" ? ["--force"] : []))
      }
    }

    @Test("without any one of those rights it is named, and with it nothing is lost")
    func eachRight() async throws {
      let broker = try await Servers.sharedBroker()
      try await Rig.with(partitions: 1) { rig in
        let kafka = rig.kafka
        let commands = try documentedRights(kafka)
        for command in commands { try await broker.run("acls", command) }
        let rights = Right.all(in: commands)
        #expect(rights.count == 9)
        let settings = try await login("oppu")
        let worker = try await rig.startWorker(settings)
        func ask(_ id: String, replyTopic: String? = nil) async throws {
          try await rig.produce(
            #"{"request_id":"\#(id)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
            key: "kim", to: kafka.requestTopic,
            headers: replyTopic.map { [KafkaHeader(key: "kafka_replyTopic", value: $0)] } ?? [])
        }
        /// What needs the right; returns what a command said.
        func use(_ right: Right) async throws -> String {
          switch right.name {
          case kafka.behaviorTopic where right.operation == "Write",
            kafka.adapterEventTopic:
            return try await rig.admin(["users", "erase", "kim", "--execute"], settings: settings)
              .output
          case "\(kafka.behaviorTopic)-dlt": try await rig.produce("no event", key: "kim")
          case "\(kafka.requestTopic)-dlt":
            try await ask("nowhere", replyTopic: "nowhere-\(kafka.replyTopic)")
          case kafka.replyTopic: try await ask("waits")
          default: break
          }
          return ""
        }
        try await ask("first")
        try await rig.waitForMessages(kafka.replyTopic, count: 1)
        for right in rights where right.kind == "--topic" {
          // Seeing it is a right of its own, which Read and Write give as well.
          try await right.change("--add", on: broker, operation: "Describe")
          let sentence = "the right \(right.operation) on \(right.name) is missing"
          // Before it goes: a worker that reads may name it while the tool that takes it away still ends.
          let before = rig.count(sentence)
          try await right.change("--remove", on: broker)
          let said = try await use(right)
          try await eventually("it is named: \(sentence)", state: said + rig.log()) {
            said.contains(sentence) || rig.count(sentence) > before
          }
          try await right.change("--add", on: broker)
        }
        try await rig.produce(
          #"{"user_id":"mara","task":"film_tag","input":{"film":"F"},"output":"funny"}"#,
          key: "mara")
        try await eventually("the event is stored", state: rig.log()) {
          try await rig.client.number("SELECT count(*) FROM behavior_events") == 1
        }
        try await ask("last")
        let replies = try await rig.read(kafka.replyTopic, count: 3)
        #expect(
          try replies.compactMap { try $0.json()["request_id"]?.string }
            == ["first", "waits", "last"], "\(rig.log())")
        for topic in [kafka.behaviorTopic, kafka.requestTopic] {
          try await rig.waitForMessages("\(topic)-dlt", count: 1)
        }
        try await rig.waitForMessages(kafka.adapterEventTopic, count: 2)
        await rig.stop(worker)
        for right in rights where right.kind == "--group" {
          try await right.change("--remove", on: broker)
          let log = "\(right.name).log"
          let other = try await rig.startWorker(settings, log: log)
          #expect(ChildProcess.describe(await other.waitForEnd()) == "exit code 1")
          #expect(
            rig.log(log).contains("does not let this user use the group \(right.name)"),
            "\(rig.log(log))")
          try await right.change("--add", on: broker)
        }
      }
    }
  }
}
