// Settings as operators give them: the real binary, asked what is in force.

import DevelopmentServers
import Foundation
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
        settings[String(parts[0])] = parts.dropFirst().first.map {
          $0.trimmingCharacters(in: .whitespaces)
        }
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
      #expect(found.output.contains("no setting \"train.epoch\" in line 3"))
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
