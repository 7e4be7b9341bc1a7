// The programs of docs/clients, run as they are against a worker: each with the library that its users have.

import Foundation
import TestSupport
import Testing

@testable import DevelopmentServers

extension IntegrationTests {
  @Suite(
    .serialized, .enabled(if: !DocumentedClient.available.isEmpty, "no client's library is here"))
  struct Clients {
    @Test(
      "a client of docs/clients gets each of its replies, also beside others, and no other's",
      .timeLimit(.minutes(5)), arguments: DocumentedClient.available)
    func replies(_ client: DocumentedClient) async throws {
      try await Rig.with(partitions: 3, hasDefaultTopics: true) { rig in
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest,infer"])
        let programs = try await client.start(broker: rig.kafka.bootstrapServers, in: rig.folder)
        for (number, program) in programs.enumerated() {
          let end = ChildProcess.describe(await program.waitForEnd())
          let said = rig.log(DocumentedClient.log(number))
          #expect(end == "exit code 0", "\(said)\n\(rig.log())")
          #expect(client.hasReplies(said), "\(said)")
        }
        await rig.stop(worker)
      }
    }
  }
}

/// One of the programs, and how its readers start it.
struct DocumentedClient: Sendable, CustomTestStringConvertible {
  let file: String
  /// The interpreter and what stands before the file; nil where the library is missing.
  let launch: [String]?
  let arguments: [String]
  var environment: [String: String] = [:]
  /// How many run at once.
  var instances = 1
  /// How many lines of a reply each prints; nil: one reply, as JSON.
  var replies: Int?

  var testDescription: String { ([file] + arguments).joined(separator: " ") }

  static let available: [DocumentedClient] = {
    let missing = all.filter { $0.launch == nil }
    if !missing.isEmpty {
      print("not tried of docs/clients: \(missing.map(\.testDescription).joined(separator: ", "))")
    }
    return all.filter { $0.launch != nil }
  }()

  private static let all: [DocumentedClient] = {
    // A Python that has confluent-kafka and aiokafka.
    let python = ProcessInfo.processInfo.environment["OPPU_TEST_PYTHON"].map { [$0] }
    let libraries = OutsideServers.kafka?.deletingLastPathComponent().appending(path: "lib")
    let java = libraries.flatMap(javaClassPath).flatMap { classPath in
      // A program in one file needs the compiler.
      Programs.find("javac", in: []).map { _ in
        ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classPath]
      }
    }
    let modules = libraries.flatMap(unpackedNodeModules)
    let node = modules.flatMap { _ in Programs.find("node", in: []).map { [$0] } }
    return [
      DocumentedClient(
        file: "kcat.sh", launch: Programs.find("kcat", in: []).map { _ in ["bash"] },
        arguments: ["kim"]),
      DocumentedClient(
        file: "request_reply.py", launch: python, arguments: ["--user", "kim", "--tag", "nineties"]),
      DocumentedClient(
        file: "request_reply_aiokafka.py", launch: python,
        arguments: ["--requests", "100", "--users", "20"], instances: 2, replies: 100),
      DocumentedClient(
        file: "request_reply.js", launch: node, arguments: ["100", "20"],
        environment: ["NODE_PATH": modules ?? ""], instances: 2, replies: 100),
      DocumentedClient(
        file: "RequestReply.java", launch: java, arguments: ["100", "20"], instances: 2,
        replies: 100
      ),
      DocumentedClient(
        file: "SpringRequestReply.java", launch: java, arguments: ["200", "50", "own"], replies: 200
      ),
      DocumentedClient(
        file: "SpringRequestReply.java", launch: java, arguments: ["200", "50", "shared"],
        instances: 2, replies: 200),
    ]
  }()

  /// Spring, and the newest of Kafka's own clients.
  private static func javaClassPath(_ libraries: URL) -> String? {
    let versions = (try? FileManager.default.contentsOfDirectory(atPath: libraries.path)) ?? []
    let newest = versions.filter { $0.first?.isNumber == true }
      .max { $0.compare($1, options: .numeric) == .orderedAscending }
    return newest.map { "\(libraries.path)/spring/*:\(libraries.path)/\($0)/*" }
  }

  /// KafkaJS as npm would have put it.
  private static func unpackedNodeModules(_ libraries: URL) -> String? {
    let folder = libraries.appending(path: "node")
    let archive = try? FileManager.default.contentsOfDirectory(atPath: folder.path)
      .first { $0.hasPrefix("kafkajs-") }
    guard let archive else { return nil }
    let modules = Servers.folder("node_modules")
    let target = modules.appending(path: "kafkajs")
    do {
      try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
      let tar = Process()
      tar.executableURL = URL(filePath: "/usr/bin/env")
      tar.arguments = [
        "tar", "xzf", folder.appending(path: archive).path, "-C", target.path,
        "--strip-components=1",
      ]
      try tar.run()
      tar.waitUntilExit()
      return tar.terminationStatus == 0 ? modules.path : nil
    } catch { return nil }
  }

  static func log(_ number: Int) -> String { "client-\(number).log" }

  func start(broker: String, in folder: URL) async throws -> [ChildProcess] {
    let launch = launch ?? []
    var programs: [ChildProcess] = []
    for number in 0..<instances {
      var environment = ProcessInfo.processInfo.environment.merging(self.environment) { $1 }
      environment["OPPU_KAFKA_BOOTSTRAP_SERVERS"] = broker
      programs.append(
        try await ChildProcess.start(
          ChildProcess.Launch(
            executable: "/usr/bin/env",
            arguments: launch + [Paths.root.appending(path: "docs/clients/\(file)").path]
              + arguments,
            environment: environment, logFile: folder.appending(path: Self.log(number)).path)))
    }
    return programs
  }

  func hasReplies(_ said: String) -> Bool {
    guard let replies else { return said.contains(/"status": ?"ok"/) }
    let lines = said.split(separator: "\n").filter { $0.contains(/^user-\d+ [0-9a-f-]{36} ./) }
    return lines.count == replies && Set(lines).count == replies
  }
}
