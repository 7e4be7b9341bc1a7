// Which librdkafka a worker has, as operators see it, and what is refused of one that is too old.

import DevelopmentServers
import Foundation
import KafkaClient
import TestSupport
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct Library {
    @Test(
      "the version of librdkafka is told by --version, by the doctor and by a worker's first line")
    func told() async throws {
      let version = "\(KafkaLibrary.current)"
      let file = Servers.folder("version").path
      let asked = try await ChildProcess.start(
        ChildProcess.Launch(executable: Paths.worker, arguments: ["--version"], logFile: file))
      #expect(ChildProcess.describe(await asked.waitForEnd()) == "exit code 0")
      #expect(try String(contentsOfFile: file, encoding: .utf8).contains("librdkafka \(version)"))
      try await Rig.with { rig in
        let doctor = try await rig.admin(["doctor", "-o", "jsonl"])
        let row = doctor.output.split(separator: "\n").first {
          $0.contains(#""check":"librdkafka""#)
        }
        #expect(row?.contains(version) == true && row?.contains("true") == true, "\(doctor.output)")
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest"])
        try await eventually("the worker reads", state: rig.log()) {
          rig.log().contains("ingest assigned")
        }
        await worker.stop(SIGTERM, grace: .seconds(60))
        let first = rig.log().split(separator: "\n").first ?? ""
        #expect(first.contains("worker starting") && first.contains("librdkafka=\(version)"))
        // What is normal is no warning: each client has a use for some of the properties only.
        #expect(!rig.log().contains("is a consumer property"), "\(rig.log())")
      }
    }

    @Test("properties that cannot be end every command at once, with one sentence and exit code 2")
    func refused() async throws {
      var cases = [("no.such.thing=1", "\"no.such.thing\"")]
      if !KafkaLibrary.current.supportsConsumerProtocol {
        cases.append(("group.protocol=consumer", "needs librdkafka 2.12.0 or newer; this is"))
      }
      if !KafkaLibrary.current.supportsIncrementalRebalances {
        cases.append(
          ("partition.assignment.strategy=cooperative-sticky", "needs librdkafka 2.3.0 or newer"))
      }
      try await Rig.with { rig in
        for (property, words) in cases {
          let settings = ["OPPU_KAFKA_PROPERTIES": property]
          let list = try await rig.admin(["topics", "list"], settings: settings)
          #expect(list.code == 2 && list.output.contains(words), "\(list.output)")
          let log = "\(UUID().uuidString).log"
          // Neither of its servers is asked.
          let worker = try await rig.startWorker(
            settings.merging(["OPPU_DATABASE_URL": "postgresql://127.0.0.1:9/none"]) { $1 },
            log: log)
          #expect(ChildProcess.describe(await worker.waitForEnd()) == "exit code 2")
          #expect(rig.log(log).contains(words), "\(rig.log(log))")
        }
      }
    }
  }
}
