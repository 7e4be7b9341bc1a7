// Every setting of a worker: its key, what it does, how it is read, checked and shown. One list serves the
// configuration file, the environment, `--set`, `--print-config` and the documentation.

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization
import Worker

/// A setting that cannot be taken.
struct SettingError: Error, CustomStringConvertible {
  let key: String
  let problem: String
  /// Where the value was given, once that is known.
  var source: SettingSource?

  var description: String {
    "setting \(key) (\(source?.description ?? Setting.environmentName(key))): \(problem)"
  }
}

struct Setting {
  let key: String
  let help: String
  /// Whether the value is a list: a YAML sequence, or one text with commas.
  var isList = false
  let apply: (inout WorkerConfiguration, String) throws -> Void
  let show: (WorkerConfiguration) -> String

  /// `schedule.newEvents` is `OPPU_SCHEDULE_NEW_EVENTS` in the environment.
  static func environmentName(_ key: String) -> String {
    var name = "OPPU_"
    for character in key {
      if character == "." {
        name += "_"
      } else if character.isUppercase {
        name += "_\(character)"
      } else {
        name += character.uppercased()
      }
    }
    return name
  }

  /// Settings that have another name now, by their old one.
  static let moved = [
    "train.cutoff": "prompt.cutoff", "infer.promptTokens": "prompt.cutoff",
    "infer.retrieve": "prompt.retrieve", "infer.profile": "prompt.profile",
    "infer.profileKind": "prompt.profileKind",
  ]

  /// Why there is no setting of that name, where it has another now.
  static func whereMoved(_ key: String) -> String? {
    moved[key].map {
      "\(key) is \($0) now (\(environmentName($0))): training and answering share it."
    }
  }

  // MARK: Kinds

  static func text(
    _ key: String, _ path: WritableKeyPath<WorkerConfiguration, String>,
    _ help: String
  ) -> Setting {
    Setting(
      key: key, help: help,
      apply: { configuration, text in
        guard !text.isEmpty else { throw SettingError(key: key, problem: "it is empty") }
        configuration[keyPath: path] = text
      }, show: { $0[keyPath: path] })
  }

  static func integer(
    _ key: String, _ path: WritableKeyPath<WorkerConfiguration, Int>, _ range: ClosedRange<Int>,
    _ help: String
  ) -> Setting {
    Setting(
      key: key, help: help,
      apply: { configuration, text in
        guard let value = Int(text), range.contains(value) else {
          throw SettingError(
            key: key,
            problem:
              "expected a whole number from \(range.lowerBound) to \(range.upperBound), found \"\(text)\""
          )
        }
        configuration[keyPath: path] = value
      }, show: { String($0[keyPath: path]) })
  }

  static func number<Value: BinaryFloatingPoint & LosslessStringConvertible>(
    _ key: String, _ path: WritableKeyPath<WorkerConfiguration, Value>,
    _ range: ClosedRange<Value>, _ help: String
  ) -> Setting {
    Setting(
      key: key, help: help,
      apply: { configuration, text in
        guard let value = Value(text), range.contains(value) else {
          throw SettingError(
            key: key,
            problem:
              "expected a number from \(range.lowerBound) to \(range.upperBound), found \"\(text)\""
          )
        }
        configuration[keyPath: path] = value
      }, show: { String($0[keyPath: path]) })
  }

  static func milliseconds(
    _ key: String, _ path: WritableKeyPath<WorkerConfiguration, Duration>,
    from minimum: Int = 1, _ help: String
  ) -> Setting {
    Setting(
      key: key, help: help,
      apply: { configuration, text in
        guard let value = Int(text), (minimum...86_400_000).contains(value) else {
          throw SettingError(
            key: key,
            problem: "expected milliseconds from \(minimum) to 86400000, found \"\(text)\"")
        }
        configuration[keyPath: path] = .milliseconds(value)
      },
      show: {
        let (seconds, attoseconds) = $0[keyPath: path].components
        return String(seconds * 1000 + attoseconds / 1_000_000_000_000_000)
      })
  }

  static func flag(
    _ key: String, _ path: WritableKeyPath<WorkerConfiguration, Bool>, _ help: String
  ) -> Setting {
    Setting(
      key: key, help: help,
      apply: { configuration, text in
        switch text.lowercased() {
        case "true", "yes", "1", "on": configuration[keyPath: path] = true
        case "false", "no", "0", "off": configuration[keyPath: path] = false
        default:
          throw SettingError(key: key, problem: "expected true or false, found \"\(text)\"")
        }
      }, show: { String($0[keyPath: path]) })
  }
}

extension Setting {
  static var all: [Setting] {
    general + kafka + database + ingest + schedule + train + prompt + infer
  }

  private static var general: [Setting] {
    [
      Setting(
        key: "roles", help: "What this process does: ingest, schedule, train, infer.",
        isList: true,
        apply: { configuration, text in
          let names = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
          configuration.roles = Set(
            try names.map { name in
              guard let role = Role(rawValue: name) else {
                throw SettingError(
                  key: "roles",
                  problem:
                    "there is no role \"\(name)\"; the roles are ingest, schedule, train, infer"
                )
              }
              return role
            })
          if configuration.roles.isEmpty {
            throw SettingError(key: "roles", problem: "name at least one role")
          }
        },
        show: { configuration in
          Role.allCases.filter(configuration.roles.contains).map(\.rawValue).joined(separator: ",")
        }),
      .text("model", \.model, "Base model: a GGUF file or a Hugging Face folder."),
      Setting(
        key: "tasksFile", help: "YAML file that declares tasks beyond the built-in ones.",
        apply: { $0.tasksFile = $1.isEmpty ? nil : $1 }, show: { $0.tasksFile ?? "" }),
      Setting(
        key: "taskAdapters",
        help:
          "Folder of task adapters that `oppu-worker adapt` trained; users' adapters go over them.",
        apply: { configuration, folder in
          guard !folder.isEmpty else { return }
          configuration.taskAdapters = folder
          configuration.train.method = MethodSettings.standard.withHeldOutEvents
        }, show: { $0.taskAdapters ?? "" }),
      .milliseconds(
        "shutdown.deadlineMs", \.shutdownDeadline,
        "How long a stop may take before the process ends all the same."),
      Setting(
        key: "erasure.key",
        help: "Secret over the receipts of erased users, the same for all processes.",
        apply: { configuration, text in
          guard !text.isEmpty else { return }
          guard text.utf8.count >= 16 else {
            throw SettingError(key: "erasure.key", problem: "a secret has at least 16 bytes")
          }
          configuration.erasureKey = text
        }, show: { $0.erasureKey == nil ? "" : mask }),
    ]
  }

  private static var kafka: [Setting] {
    [
      .text(
        "kafka.bootstrapServers", \.kafka.bootstrapServers, "Brokers as host:port, with commas."),
      Setting(
        key: "kafka.properties",
        help: "librdkafka's own properties as name=value, e.g. security.protocol=SASL_SSL.",
        isList: true,
        apply: { configuration, text in
          for pair in text.split(separator: ",") {
            try add(pair, to: &configuration, key: "kafka.properties")
          }
        }, show: showProperties),
      Setting(
        key: "kafka.propertiesFile",
        help: "File of librdkafka properties, one name=value a line; the place for passwords.",
        apply: { configuration, path in
          guard !path.isEmpty else { return }
          guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw SettingError(
              key: "kafka.propertiesFile", problem: "the file \(path) cannot be read")
          }
          for line in text.split(whereSeparator: \.isNewline) {
            let line = line.trimmingCharacters(in: .whitespaces)
            if line.isEmpty || line.hasPrefix("#") { continue }
            try add(line[...], to: &configuration, key: "kafka.propertiesFile")
          }
        }, show: { _ in "" }),
      .milliseconds(
        "kafka.idleRestMs", \.kafka.idleRest, from: 0,
        "Pause between fetches that found nothing; only for brokers that answer those at once."),
      .text("kafka.behaviorTopic", \.kafka.behaviorTopic, "Behaviour events are read from it."),
      .text("kafka.requestTopic", \.kafka.requestTopic, "Requests are read from it."),
      .text(
        "kafka.replyTopic", \.kafka.replyTopic, "Replies go there unless a request names a topic."),
      .text(
        "kafka.adapterEventTopic", \.kafka.adapterEventTopic,
        "What happens to adapters is told there."),
      .text(
        "kafka.groupPrefix", \.kafka.groupPrefix,
        "Consumer groups are PREFIX-ingest and PREFIX-infer."),
      .flag(
        "kafka.staticMembership", \.kafka.isStaticMember,
        "A killed worker is back under its name at once; false: one that ends leaves its groups."),
    ]
  }

  private static func add(
    _ pair: Substring, to configuration: inout WorkerConfiguration, key: String
  ) throws {
    let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty else {
      throw SettingError(key: key, problem: "expected name=value, found \"\(pair.prefix(30))\"")
    }
    let name = parts[0].trimmingCharacters(in: .whitespaces)
    configuration.kafka.properties[name] = parts[1].trimmingCharacters(in: .whitespaces)
  }

  /// Names with values, but no value of what may be a secret.
  private static func showProperties(_ configuration: WorkerConfiguration) -> String {
    configuration.kafka.properties.sorted { $0.key < $1.key }.map { name, value in
      let isSecret = [
        "password", "secret", "key", "token", "jaas", "username", "oauthbearer.config",
      ].contains { name.lowercased().contains($0) }
      return "\(name)=\(isSecret ? mask : value)"
    }.joined(separator: ",")
  }

  private static var database: [Setting] {
    [
      Setting(
        key: "database.url",
        help: "libpq URI or keyword string (sslmode, sslrootcert, … pass through).",
        apply: { $0.database.url = $1 }, show: { masked($0.database.url) }),
      .integer(
        "database.maximumConnections", \.database.maximumConnections, 2...1_000,
        "Connections that this process opens at most; 3 are the least for all roles."),
      .flag("database.migrate", \.database.migrate, "Apply missing migrations at the start."),
    ]
  }

  private static var ingest: [Setting] {
    [
      .integer(
        "ingest.batchMessages", \.ingest.batchMessages, 1...100_000,
        "Messages of a partition in one transaction at most."),
      .integer(
        "ingest.batchBytes", \.ingest.batchBytes, 65_536...268_435_456,
        "Bytes of messages in one transaction at most."),
      .milliseconds(
        "ingest.lingerMs", \.ingest.linger, from: 0,
        "How long a batch that is not full waits for more."),
      .integer("ingest.writers", \.ingest.writers, 1...64, "Transactions at a time."),
      .milliseconds(
        "ingest.futureMs", \.ingest.future, from: 0,
        "How far in the future an event may lie; beyond, it becomes a dead letter."),
      Setting(
        key: "ingest.onOffsetGap",
        help:
          "Where a stored offset does not fit the topic: stop (that partition waits), earliest or latest.",
        apply: { configuration, text in
          guard let policy = OffsetGapPolicy(rawValue: text) else {
            throw SettingError(
              key: "ingest.onOffsetGap",
              problem: "expected stop, earliest or latest, found \"\(text)\"")
          }
          configuration.ingest.onOffsetGap = policy
        }, show: { $0.ingest.onOffsetGap.rawValue }),
    ]
  }

  /// Stands where a secret is not shown.
  static let mask = "********"

  /// A connection string without its password. In a URI the password is taken to reach to the last @ before the
  /// parameters: one that was not escaped must not show its tail.
  static func masked(_ url: String) -> String {
    url.replacing(/(:\/\/[^:\/@?]*):[^?]*@/) { "\($0.1):\(mask)@" }
      .replacing(/(password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s&\\]|\\.)+)/) { "\($0.1)\(mask)" }
  }

  private static var schedule: [Setting] {
    [
      .integer(
        "schedule.firstAdapterEvents", \.schedule.rules.firstAdapterEvents, 8...100_000,
        "Events before a user's first adapter for a task."),
      .integer(
        "schedule.newEvents", \.schedule.rules.newEvents, 1...1_000_000,
        "New events that ask for a training without a shift."),
      .integer(
        "schedule.shiftEvents", \.schedule.rules.shiftEvents, 4...10_000,
        "Events of the new behaviour that a shift waits for."),
      .milliseconds(
        "schedule.shiftPatienceMs", \.schedule.rules.shiftPatience,
        "How long a shift waits for them, in milliseconds."),
      .integer(
        "schedule.falseAlarmEvents", \.schedule.falseAlarmEvents, 20...100_000,
        "Events between false alarms of a user who does not change, on average."),
      .number(
        "schedule.falseAlarmsPerDay", \.schedule.falseAlarmsPerDay, 0...1e9,
        "False alarms a day over all users, beside a tenth of all alarms; 0 for no limit."),
      .integer(
        "schedule.maximumAgeHours", \.schedule.rules.maximumAgeHours, 0...100_000,
        "Hours after which some new events ask for a training; 0 for never."),
      .integer(
        "schedule.ageEvents", \.schedule.rules.ageEvents, 1...1_000_000,
        "New events that such a training needs."),
      .integer(
        "schedule.trainingSecondsPerHour", \.schedule.trainingSecondsPerHour, 0...100_000_000,
        "Seconds of training in any hour, over all workers; 0 for no limit."),
      .integer(
        "schedule.trialEvents", \.schedule.trialEvents, 0...100_000,
        "Events after a promotion that may roll it back; 0 for no automatic rollback."),
      .integer(
        "schedule.keepVersions", \.schedule.retention.versions, 0...10_000,
        "Retired versions of a user and task that keep their weights."),
      .integer(
        "schedule.keepRejectedDays", \.schedule.retention.rejectedDays, 0...36_500,
        "Days that rejected and rolled-back versions keep their weights."),
      .integer(
        "schedule.keepRecordDays", \.schedule.retention.recordDays, 1...36_500,
        "Days that finished jobs, decisions and numbers of versions are kept."),
      .flag(
        "schedule.lossSignal", \.schedule.lossSignal,
        "Measure the active adapter's loss on every new event."),
      .milliseconds(
        "schedule.pollIntervalMs", \.schedule.pollInterval,
        "Pause between looks when nothing is new."),
    ]
  }

  private static var train: [Setting] {
    [
      .integer("train.concurrency", \.train.concurrency, 1...64, "Jobs at a time in this process."),
      .milliseconds(
        "train.leaseMs", \.train.leaseDuration,
        "A job whose worker is silent for this long is given to another."),
      .integer(
        "train.maximumAttempts", \.train.maximumAttempts, 1...100, "Attempts before a job is dead."),
      Setting(
        key: "train.preset",
        help: "Settings that those below change: alone, or with taskAdapters default; reference.",
        apply: { configuration, name in
          do {
            configuration.train.method = try MethodSettings.preset(name).withHeldOutEvents
          } catch { throw SettingError(key: "train.preset", problem: "\(error)") }
        }, show: { $0.train.method.name }),
      Setting(
        key: "train.method",
        help: "lora, dora, ia3 or prompt_tuning, at a learning rate of its kind.",
        apply: { configuration, name in
          guard let method = TrainingMethod(rawValue: name) else {
            let known = TrainingMethod.allCases.map(\.rawValue).joined(separator: ", ")
            throw SettingError(
              key: "train.method", problem: "unknown \"\(name)\"; there are \(known)")
          }
          configuration.train.method = configuration.train.method.training(method)
        }, show: { $0.train.method.user.training.method.rawValue }),
      .integer("train.rank", \.train.method.user.training.rank, 1...256, "Rank of the adapters."),
      .number(
        "train.alpha", \.train.method.user.training.alpha, 0.001...10_000,
        "LoRA's alpha; the update is scaled by alpha / rank."),
      Setting(
        key: "train.targets", help: "Projections with an adapter, by PEFT's names.", isList: true,
        apply: { configuration, text in
          configuration.train.method.user.training.targets = try text.split(separator: ",").map {
            name in
            let name = name.trimmingCharacters(in: .whitespaces)
            guard let projection = Projection(rawValue: name) else {
              let known = Projection.allCases.map(\.rawValue).joined(separator: ", ")
              throw SettingError(
                key: "train.targets", problem: "unknown \"\(name)\"; there are \(known)")
            }
            return projection
          }
        }, show: { $0.train.method.user.training.targets.map(\.rawValue).joined(separator: ",") }),
      .number(
        "train.learningRate", \.train.method.user.training.learningRate, 1e-8...1,
        "AdamW's peak learning rate."),
      .number(
        "train.weightDecay", \.train.method.user.training.weightDecay, 0...1,
        "AdamW's decoupled weight decay."),
      .number(
        "train.clip", \.train.method.user.training.clip, 1e-6...1e6,
        "The gradient's norm is clipped to this."),
      .number(
        "train.warmup", \.train.method.user.training.warmup, 0...1,
        "Share of the steps that warm up."),
      .integer(
        "train.batchSize", \.train.method.user.training.batchSize, 1...1_024,
        "Examples in an optimiser step."),
      .integer(
        "train.epochs", \.train.method.user.training.epochs, 1...1_000, "Epochs at most."),
      .integer(
        "train.maximumTokens", \.train.method.user.maximumTokens, 1_000...Int.max,
        "Tokens that one job computes at most; epochs are reduced to it."),
      .integer(
        "train.replayEvents", \.train.method.examples.replay, 0...10_000,
        "Earlier events repeated in an incremental training."),
      .number(
        "train.minimumGain", \.train.minimumGain, 0...1,
        "Share by which a candidate's held-out loss must be lower, than its parent's and the base's."
      ),
      .number(
        "train.gateConfidence", \.train.gateConfidence, 0.5...0.999,
        "Confidence that a candidate is better on held-out events: a one-sided bound."),
      .milliseconds("train.pollIntervalMs", \.train.pollInterval, "Pause between looks for a job."),
    ]
  }

  /// After those of training, whose presets have a cutoff of their own.
  private static var prompt: [Setting] {
    [
      .integer(
        "prompt.cutoff", \.train.method.cutoff, 32...8_192,
        "Longest example in tokens, prompt and answer: in training and in answering."),
      .integer(
        "prompt.retrieve", \.prompt.variant.retrieve, 0...64,
        "History items in a prompt where the request does not say."),
      .flag(
        "prompt.profile", \.prompt.variant.profile,
        "A profile in the prompt where the request does not say."),
      Setting(
        key: "prompt.profileKind",
        help: "computed (for every prompt), or model: written at training, kept with the version.",
        apply: { configuration, text in
          guard let kind = UserProfile.Kind(rawValue: text) else {
            let known = UserProfile.Kind.allCases.map(\.rawValue).joined(separator: ", ")
            throw SettingError(
              key: "prompt.profileKind", problem: "unknown \"\(text)\"; there are \(known)")
          }
          configuration.prompt.profileKind = kind
        }, show: { $0.prompt.profileKind.rawValue }),
    ]
  }

  private static var infer: [Setting] {
    [
      .integer("infer.batchSize", \.infer.batchSize, 1...256, "Requests in one forward pass."),
      .integer(
        "infer.maximumTokens", \.infer.maximumTokens, 1...RequestOptions.maximumTokens,
        "Tokens of an answer that a request may ask for; one that asks for more is refused."),
      .milliseconds(
        "infer.deadlineMs", \.infer.defaultDeadline, "Deadline of requests that name none."),
      Setting(
        key: "infer.replyTopics",
        help:
          "Topics that a request may name for its reply, beside kafka.replyTopic; * for anything.",
        isList: true,
        apply: { configuration, text in
          configuration.infer.replyTopics = text.split(separator: ",").map {
            $0.trimmingCharacters(in: .whitespaces)
          }
        }, show: { $0.infer.replyTopics.joined(separator: ",") }),
      .integer(
        "infer.adapterCacheBytes", \.infer.adapterCacheBytes, 1_048_576...1_099_511_627_776,
        "Memory for adapters that were used lately."),
      .integer(
        "infer.prefixCacheBytes", \.infer.prefixCacheBytes, 0...1_099_511_627_776,
        "Memory for beginnings of prompts that may come again; 0 keeps none."),
      .integer(
        "infer.answerDays", \.infer.answerDays, 0...36_500,
        "Days for which answers are kept, so that feedback can refer to them; 0 keeps none."),
    ]
  }
}
