// Everything that a worker process is told from outside, with the defaults that work.

import FineTuning
import Foundation
import KafkaClient
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage

/// A part of the work that a process can take on.
public enum Role: String, CaseIterable, Sendable, Codable {
  case ingest, schedule, train, infer
}

/// All settings of a worker; docs/operating.md has them as a table.
public struct WorkerConfiguration: Sendable {
  public var roles: Set<Role> = Set(Role.allCases)
  /// GGUF file of the base model.
  public var model: String = ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"
  /// YAML file with tasks beyond the built-in ones.
  public var tasksFile: String?
  /// Folder of task adapters, as `oppu-worker adapt` writes it.
  public var taskAdapters: String?
  /// How long a stop may take before the process ends all the same: below the minute that supervisors give.
  public var shutdownDeadline: Duration = .seconds(45)
  /// A secret for the receipts of erasures; nil: the database's own alone.
  public var erasureKey: String?
  public var kafka = Kafka()
  public var database = Database()
  public var ingest = Ingest()
  public var schedule = Schedule()
  public var train = Train()
  public var infer = Infer()
  public var prompt = Prompt()

  public init() {}

  /// The key that receipts of erasures are made with.
  public var receiptKey: ReceiptKey { ReceiptKey(secret: erasureKey) }

  /// Where messages come from and go to.
  public struct Kafka: Sendable {
    /// host:port, several with commas between.
    public var bootstrapServers = "localhost:9092"
    /// librdkafka's own properties: SASL, TLS and anything else.
    public var properties: [String: String] = [:]
    /// See `KafkaConfiguration.idleRest`.
    public var idleRest: Duration = .zero
    public var behaviorTopic = "user-behavior"
    public var requestTopic = "personalization-requests"
    public var replyTopic = "personalization-replies"
    public var adapterEventTopic = "adapter-events"
    /// Consumer groups are called by it and the role: `oppu-ingest`.
    public var groupPrefix = "oppu"
    /// Whether this process is known to its groups under a name that outlives it.
    public var isStaticMember = true

    /// For clients of all roles.
    public var client: KafkaConfiguration {
      KafkaConfiguration(
        bootstrapServers: bootstrapServers, properties: properties, idleRest: idleRest)
    }
  }

  /// Where PostgreSQL is.
  public struct Database: Sendable {
    /// libpq URI or keyword string.
    public var url = "postgresql://localhost/oppu"
    /// Of this process; connections that listen come on top of them.
    public var maximumConnections = 8
    /// Apply missing migrations when the worker starts.
    public var migrate = true
  }

  /// How behaviour events get into PostgreSQL.
  public struct Ingest: Sendable {
    /// Messages in one transaction at most.
    public var batchMessages = 10_000
    /// Bytes of messages in one transaction at most, but for a single message.
    public var batchBytes = 8 << 20
    /// How long a batch that is not full waits for more.
    public var linger: Duration = .milliseconds(50)
    /// Transactions at a time in this process.
    public var writers = 4
    /// How far in the future an event may lie.
    public var future: Duration = .seconds(86_400)
    /// What is done where a stored offset does not fit the topic's log.
    public var onOffsetGap = OffsetGapPolicy.stop

    public init() {}
  }

  /// When a user's adapter is (re)trained.
  public struct Schedule: Sendable {
    /// What asks for a training.
    public var rules = ScheduleRules()
    /// Seconds of training within an hour, over all workers; 0: no limit.
    public var trainingSecondsPerHour = 0
    /// Events after a promotion on which the version is compared with what it replaced; 0: no automatic rollback.
    public var trialEvents = 32
    /// For how long what is stored stays.
    public var retention = RetentionPolicy()
    /// Average number of events between false alarms on an unchanged stream.
    public var falseAlarmEvents = 1_000
    /// False alarms a day over all users, and as many again as a tenth of the true ones: where there are many
    /// users, each is allowed fewer than `falseAlarmEvents` says. 0: no such limit.
    public var falseAlarmsPerDay = 0.0
    /// Measure the active adapter's loss on every new event (needs the model in the scheduler).
    public var lossSignal = true
    /// Between two looks where nothing was found.
    public var pollInterval: Duration = .seconds(1)
  }

  /// How trainings are made.
  public struct Train: Sendable {
    /// Jobs at a time in this process.
    public var concurrency = 1
    /// Heartbeats come three times as often.
    public var leaseDuration: Duration = .seconds(30)
    /// A job that failed so often is dead.
    public var maximumAttempts = 3
    /// What a job trains, and on what of the history. Its `user` part is the training itself.
    public var method = MethodSettings.alone.withHeldOutEvents
    /// A candidate is promoted where its held-out loss is lower than its parent's by this share.
    public var minimumGain = 0.01
    /// And where that is not by chance: confidence of the one-sided bound of the difference.
    public var gateConfidence = 0.8
    /// With a history's length it decides what is drawn at random in its training.
    public var seed: UInt64 = 0
    /// Between two looks for a job where there was none.
    public var pollInterval: Duration = .seconds(2)
  }

  /// What training and answering share: a model answers the prompts that it has learnt to answer. Their longest example
  /// and the way in which items are chosen are part of `train.method`.
  public struct Prompt: Sendable {
    /// What stands in prompts where a request does not say, and therefore in those of the training.
    public var variant = PromptVariant.plain
    /// Computed for every prompt, or written by the model when an adapter is trained, and kept with it.
    public var profileKind = UserProfile.Kind.computed
  }

  /// How requests are answered.
  public struct Infer: Sendable {
    /// Requests in one forward pass.
    public var batchSize = 16
    /// Tokens that a request may ask for at most; longer computations hold up the others of their pass.
    public var maximumTokens = RequestOptions.maximumTokens
    /// For requests that name none.
    public var defaultDeadline: Duration = .seconds(60)
    /// For users' adapters in memory.
    public var adapterCacheBytes = 256 << 20
    /// Topics that a request may name for its reply, beside `kafka.replyTopic`; `*` stands for anything.
    public var replyTopics = ["*-replies"]
    /// For keys and values of prompts' beginnings.
    public var prefixCacheBytes = 128 << 20
    /// Days for which answers are kept for feedback; 0 keeps none.
    public var answerDays = 7
  }
}
