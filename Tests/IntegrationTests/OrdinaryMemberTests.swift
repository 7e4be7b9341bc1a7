// Members of the groups that end beside others: with the development broker, which never lets a static one go.

import DevelopmentServers
import Foundation
import PostgresClient
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct OrdinaryMembers {
    @Test("an ordinary member that is stopped gives its partitions to the others at once")
    func leaving() async throws {
      try await Rig.with(partitions: 4) { rig in
        let settings = [
          "OPPU_ROLES": "ingest", "OPPU_KAFKA_STATIC_MEMBERSHIP": "false",
          "OPPU_KAFKA_IDLE_REST_MS": "200",
        ]
        let first = try await rig.startWorker(settings, log: "first.log")
        try await eventually("the first has partitions", state: rig.log("first.log")) {
          rig.log("first.log").contains("ingest assigned")
        }
        let second = try await rig.startWorker(settings, log: "second.log")
        try await eventually("the second has some", state: rig.log("second.log")) {
          rig.log("second.log").contains("ingest assigned")
        }
        await rig.stop(second)
        for partition in 0..<Int32(4) {
          try await rig.produce(
            (0..<5).map {
              #"{"user_id":"u\#(partition)","task":"film_tag","input":{"film":"\#($0)"},"output":"funny"}"#
            }, key: "u\(partition)", partition: partition)
        }
        try await rig.waitForIngest(messages: 20)
        await rig.stop(first)
      }
    }

  }
}
