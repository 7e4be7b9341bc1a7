// Settings as operators give them: the real binary, asked what is in force.

import DevelopmentServers
import Foundation
import TestSupport
import Testing

extension IntegrationTests {
  @Suite struct Settings {
    /// The settings in force by `run --print-config`, or what the binary said where it refused.
    private func inForce(
      _ arguments: [String] = [], environment: [String: String] = [:], file: String? = nil
    ) async throws -> (settings: [String: String], output: String, status: Int32) {
      let folder = Servers.folder("settings")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      var arguments = ["run", "--print-config"] + arguments
      if let file {
        let path = folder.appending(path: "worker.yaml")
        try file.write(to: path, atomically: true, encoding: .utf8)
        arguments += ["--config", path.path]
      }
      let log = folder.appending(path: "output")
      let child = try await ChildProcess.start(
        ChildProcess.Launch(
          executable: Paths.worker, arguments: arguments,
          environment: ["PATH": "/usr/bin:/bin"].merging(environment) { $1 }, logFile: log.path))
      let status = await child.waitForEnd()
      let output = try String(contentsOf: log, encoding: .utf8)
      var settings: [String: String] = [:]
      for line in output.split(separator: "\n") where !line.hasPrefix("#") {
        let parts = line.split(separator: ":", maxSplits: 1)
        let value = parts.dropFirst().first.map { $0.trimmingCharacters(in: .whitespaces) }
        settings[String(parts[0])] = value == "\"\"" ? "" : value
      }
      return (settings, output, status)
    }

    @Test("flags win over the environment, the environment over the file, the file over defaults")
    func precedence() async throws {
      let file = "schedule: {newEvents: 40, shiftEvents: 11, ageEvents: 9}\n"
      let found = try await inForce(
        ["--set", "schedule.newEvents=60"],
        environment: ["OPPU_SCHEDULE_NEW_EVENTS": "50", "OPPU_SCHEDULE_SHIFT_EVENTS": "12"],
        file: file)
      #expect(found.status == 0)
      #expect(found.settings["schedule.newEvents"] == "60")
      #expect(found.settings["schedule.shiftEvents"] == "12")
      #expect(found.settings["schedule.ageEvents"] == "9")
      #expect(found.settings["schedule.firstAdapterEvents"] == "16")
    }

    @Test("a training's preset follows from the task adapters, and single settings change it")
    func presets() async throws {
      let alone = try await inForce(["--set", "train.epochs=2"]).settings
      #expect(alone["train.preset"] == "alone")
      #expect(alone["train.learningRate"] == "0.002" && alone["train.epochs"] == "2")
      let over = try await inForce(environment: ["OPPU_TASK_ADAPTERS": "adapters"]).settings
      #expect(over["train.preset"] == "default")
      #expect(over["train.learningRate"] == "0.0006" && over["train.maximumTokens"] == "12000")
      let paper = try await inForce(
        ["--set", "train.preset=reference", "--set", "train.rank=4"],
        environment: ["OPPU_TASK_ADAPTERS": "adapters"]
      ).settings
      #expect(paper["train.targets"] == "q_proj,v_proj" && paper["train.rank"] == "4")
      let unknown = try await inForce(["--set", "train.preset=best"])
      #expect(unknown.status != 0)
      #expect(
        unknown.output.contains("there is no preset \"best\"; there are default, alone, reference"))
    }

    @Test("a PEFT method brings its learning rate and targets; what it cannot train is refused")
    func methods() async throws {
      let scales = try await inForce(["--set", "train.method=ia3"]).settings
      #expect(scales["train.targets"] == "k_proj,v_proj,down_proj")
      #expect(scales["train.learningRate"] == "0.01")
      let slow = try await inForce([
        "--set", "train.learningRate=1e-3", "--set", "train.method=prompt_tuning",
      ]).settings
      #expect(slow["train.method"] == "prompt_tuning" && slow["train.learningRate"] == "0.001")
      let refused = try await inForce([
        "--set", "train.method=ia3", "--set", "train.targets=q_proj",
      ])
      #expect(refused.status != 0 && refused.output.contains("feed-forward targets"))
    }

    @Test("a misspelt key of the file is an error that names its line")
    func misspelt() async throws {
      let found = try await inForce(file: "train:\n  epochs: 2\n  epoch: 3\n")
      #expect(found.status != 0)
      #expect(found.output.contains("worker.yaml:3:3: there is no setting \"train.epoch\""))
    }

    @Test("a setting that has another name now is refused with it, wherever it is given")
    func moved() async throws {
      for found in [
        try await inForce(file: "infer:\n  promptTokens: 512\n"),
        try await inForce(["--set", "train.cutoff=128"]),
        try await inForce([], environment: ["OPPU_TRAIN_CUTOFF": "128"]),
      ] {
        #expect(found.status != 0)
        #expect(found.output.contains("is prompt.cutoff now (OPPU_PROMPT_CUTOFF)"))
      }
    }

    @Test("what --print-config shows is read back as a file with the same settings")
    func readBack() async throws {
      let first = try await inForce(
        [
          "--set", "kafka.groupPrefix=a: b # c", "--set", "train.targets=q_proj,v_proj",
          "--set", "model=\"quoted\" \\ path", "--roles", "infer,train",
          "--set", "kafka.properties=client.id=x,socket.keepalive.enable=true",
        ], environment: ["OPPU_TRAIN_LEARNING_RATE": "3e-4"])
      #expect(first.status == 0)
      let second = try await inForce(file: first.output)
      #expect(second.status == 0, "\(second.output)")
      #expect(second.settings == first.settings)
      #expect(second.settings["roles"] == "train,infer")
    }

    @Test("every setting says where its value comes from")
    func sources() async throws {
      let found = try await inForce(
        ["--set", "train.rank=4", "--kafka", "broker:9092", "--roles", "ingest"],
        environment: ["OPPU_TRAIN_EPOCHS": "2"], file: "schedule:\n  newEvents: 40\n")
      for (key, place) in [
        ("train.rank", "from --set]"), ("kafka.bootstrapServers", "from --kafka]"),
        ("roles", "from --roles]"), ("train.epochs", "from OPPU_TRAIN_EPOCHS]"),
        ("schedule.newEvents", "worker.yaml:2]"), ("train.alpha", "default]"),
      ] {
        let lines = found.output.split(separator: "\n")
        let line = try #require(lines.firstIndex { $0.hasPrefix(key + ":") })
        #expect(lines[line - 1].hasSuffix(place), "\(lines[line - 1])")
      }
    }

    @Test("a value that cannot be taken is refused with the place it was given at")
    func places() async throws {
      let file = try await inForce(file: "train:\n  epochs: many\n")
      #expect(file.output.contains("worker.yaml:2): expected a whole number"))
      let variable = try await inForce(environment: ["OPPU_TRAIN_EPOCHS": "0"])
      #expect(variable.output.contains("(OPPU_TRAIN_EPOCHS): expected a whole number"))
      let flag = try await inForce(["--roles", "cook"])
      #expect(flag.output.contains("(--roles): there is no role \"cook\""))
      for refused in [file, variable, flag] {
        #expect(ChildProcess.describe(refused.status) == "exit code 2")
      }
    }

    @Test(
      "a settings file that is not what it should be is refused with the line",
      arguments: [
        ("train: {epochs: 2, epochs: 3}", ":1:"), ("train:\n  rank: [1]", "must be one value"),
        ("roles: [ingest, [train]]", "list of texts"), ("- train", "must be a mapping"),
        ("train:\n  rank:\n", "has no value"), ("a: b: c", ":1:"),
        ("train.rank: 1\ntrain: {rank: 2}", "stands twice"),
        ("schedule: {newEvnets: 3}", "no setting \"schedule.newEvnets\""),
      ])
    func brokenFile(_ text: String, _ words: String) async throws {
      let found = try await inForce(file: text + "\n")
      #expect(ChildProcess.describe(found.status) == "exit code 2")
      #expect(found.output.contains("worker.yaml:") && found.output.contains(words))
    }

    @Test(
      "no part of a secret is shown",
      arguments: [
        ("database.url", "postgresql://oppu:s3cret@db/oppu"),
        ("database.url", "postgresql://oppu:a@s3cret@db/oppu"),
        ("database.url", "postgresql://oppu:a/s3cret@db/oppu?sslmode=require"),
        ("database.url", "host=db password='a\\'s3cret' user=oppu"),
        ("database.url", "host=db password=a\\ s3cret user=oppu"),
        ("database.url", "postgresql://db/oppu?user=oppu&password=s3cret"),
        ("kafka.properties", "sasl.username=oppu,sasl.password=s3cret"),
        ("kafka.properties", "sasl.oauthbearer.config=principal=s3cret"),
      ])
    func secrets(_ key: String, _ value: String) async throws {
      let found = try await inForce(["--set", "\(key)=\(value)"])
      #expect(found.status == 0)
      #expect(!found.output.contains("s3cret"), "\(found.output)")
      #expect(found.output.contains("# \(key): ") && found.output.contains("********"))
      #expect(try await inForce(file: found.output).status == 0)
    }

    @Test("the table of all settings in the documentation has each of them with its default")
    func documented() async throws {
      let defaults = try await inForce()
      let page = try String(
        contentsOf: Paths.root.appending(path: "docs/operating.md"), encoding: .utf8)
      var documented: [String: String] = [:]
      for row in page.split(separator: "\n") {
        let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        guard cells.count > 2, cells[1].hasPrefix("`OPPU_") else { continue }
        documented[cells[0].trimmingCharacters(in: ["`"])] = cells[2]
      }
      #expect(Set(documented.keys) == Set(defaults.settings.keys))
      for (key, value) in defaults.settings where !value.isEmpty && key != "roles" {
        let text = try #require(documented[key])
        #expect(text.contains(value.replacing(/\.0$/, with: "")), "\(key): \(value)")
      }
    }
  }
}
