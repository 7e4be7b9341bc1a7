// What an evaluation predicts is what the worker answers: the same histories once through Evaluation, and once
// through Kafka, PostgreSQL and the real binary.

import FineTuning
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization
import TestSupport
import Testing

@testable import Evaluation
@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite struct OfflineOnline {
    private static let tags = ["funny", "sad", "tense", "dreamy", "nineties"]
    private static let words = [
      "a race against time", "a last farewell", "three clumsy thieves", "a bomb on board",
      "the summer of two sisters", "an old piano", "a letter from the sea",
    ]

    /// Short ones, some that alone come near what a prompt may hold, and some beyond it.
    private static func film(_ number: Int, _ generator: inout Seeded) -> [String: JSONValue] {
      let repeats = [1, 1, Int.random(in: 2...80, using: &generator)]
      let text = (0..<(repeats.randomElement(using: &generator) ?? 1)).map { _ in
        words.randomElement(using: &generator) ?? ""
      }.joined(separator: ", ")
      return ["film": .string("Film \(number) (19\(50 + number % 50)): \(text)")]
    }

    /// What a study says of each event of a history, with the user's own adapter: the losses that the worker's detectors
    /// see.
    private static func losses(
      _ user: LaMPUser, _ training: PersonalTraining, profile: UserProfile?, seed: UInt64
    ) throws -> [Double] {
      let own = try #require(
        try training.train(user.history, profile: profile?.text, seed: seed))
      let learner = AdapterLearner(training: training, seed: seed)
      let knowledge = AdapterLearner.Knowledge(
        adapter: own.adapter,
        stacked: try Adapter.stack(
          [training.under, own.adapter].compactMap(\.self),
          configuration: training.model.configuration), trainedThrough: own.trainedThrough,
        profile: profile)
      var earlier = HistoryRetriever(task: training.task)
      return try user.history.map { item in
        defer { earlier.append(item) }
        return try learner.loss(of: item, earlier: earlier, with: knowledge)
      }
    }

    /// Users of random tags, with queries of their own.
    private static func users(
      _ names: [String], items: Int, queries: Int, _ generator: inout Seeded
    ) -> [LaMPUser] {
      names.map { name in
        let own = (0..<2).map { _ in tags.randomElement(using: &generator) ?? "" }
        let history = (0..<items).map { number in
          HistoryItem(
            eventID: "\(name)-\(number)",
            occurredAt: Date(timeIntervalSince1970: 1_700_000_000 + Double(number)),
            input: film(number, &generator), output: own.randomElement(using: &generator) ?? "")
        }
        return LaMPUser(
          id: name, history: history,
          queries: (0..<queries).map { number in
            LaMPQuery(
              id: "\(name)-q\(number)", input: film(100 + number, &generator), gold: own[0])
          })
      }
    }

    @Test(
      "the worker answers what the evaluation predicts, with every PEFT method and kind of profile",
      arguments: [
        // What differs between the methods does not depend on a model's depth; profiles are written by the whole one.
        (TrainingMethod.lora, UserProfile.Kind?.none, ShallowModel.path),
        (.lora, .model, Paths.model), (.dora, nil, ShallowModel.path),
        (.ia3, nil, ShallowModel.path), (.promptTuning, nil, ShallowModel.path),
      ])
    func equal(method: TrainingMethod, profiles: UserProfile.Kind?, path: String) async throws {
      var generator = Seeded()
      let users = Self.users(["ada", "ben"], items: 20, queries: 4, &generator)
      let task = try TaskCatalogue.builtIn.task(named: "film_tag")
      var configuration = WorkerConfiguration()
      configuration.train.method = MethodSettings.standard.withHeldOutEvents.training(method)
      configuration.train.method.user.training.rank = 4
      configuration.train.method.user.maximumTokens = 1_500
      // Steps so long that few of them change answers.
      configuration.train.method.user.training.learningRate *= 10
      configuration.prompt.variant.retrieve = profiles == nil ? 2 : 0
      configuration.prompt.variant.profile = profiles != nil
      let settings = {
        var settings = configuration.train.method
        settings.profile = profiles ?? .computed
        return settings
      }()
      let seed = configuration.train.seed
      let variant = configuration.prompt.variant

      try await Rig.with { rig in
        // A task adapter of other users, as `oppu-worker adapt` makes it.
        let folder = rig.folder.appending(path: "task-adapters")
        let others = Self.users(["other-1", "other-2"], items: 20, queries: 0, &generator)
        let (model, trained) = try await ComputeQueue("offline").run {
          let model = try LlamaModel.load(path: path)
          var few = settings
          few.task.maximumTokens = 1_000
          let trained = try TaskAdapterStore(folder: folder.appending(path: task.name)).train(
            TaskAdaptation(model: model, task: task, settings: few, variant: variant),
            on: others, queries: false, seed: 1)
          return (model, trained)
        }
        let taskAdapter = try #require(trained)

        // Offline.
        // Before a user's first training, and of the base model, there is no written profile yet.
        let arms = try (profiles == nil ? ["base", "task", "oppu"] : ["oppu"]).map {
          try Arm("\($0)+\(variant.name)", retrieve: 2)
        }
        let offline = try await ComputeQueue("offline").run {
          let evaluation = UserEvaluation(
            model: model, task: task, settings: settings,
            taskAdapters: [variant: taskAdapter.adapter], seed: seed)
          return try users.map { try evaluation.run($0, arms: arms) }
        }

        // Online.
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "ingest,train,infer", "OPPU_MODEL": path,
          "OPPU_TASK_ADAPTERS": folder.path,
          "OPPU_TRAIN_METHOD": method.rawValue,
          "OPPU_TRAIN_RANK": "4", "OPPU_TRAIN_MAXIMUM_TOKENS": "1500",
          "OPPU_TRAIN_LEARNING_RATE": "\(settings.user.training.learningRate)",
          "OPPU_PROMPT_RETRIEVE": "\(variant.retrieve)",
          "OPPU_PROMPT_PROFILE": "\(variant.profile)",
          "OPPU_PROMPT_PROFILE_KIND": settings.profile.rawValue,
        ])
        for user in users {
          for item in user.history {
            let event = JSONValue.object([
              "event_id": .string(item.eventID), "user_id": .string(user.id),
              "task": .string(task.name), "input": .object(item.input),
              "output": .string(item.output),
              "occurred_at": .string(item.occurredAt.formatted(.iso8601)),
            ])
            try await rig.produce(event.canonical, key: user.id)
          }
        }
        try await rig.waitForIngest(messages: users.reduce(0) { $0 + $1.history.count })
        // A user without an adapter of their own is answered by the task's.
        let before = try await Self.ask(rig, users, id: "task")
        _ = try await JobQueue(rig.client).enqueue(
          users.map {
            JobRequest(stream: StreamID(userID: $0.id, task: task.name), reason: .operator)
          })
        try await eventually("both are trained", state: rig.log()) {
          try await AdapterRepository(rig.client).list().count == users.count
        }
        // Whatever the gate says of these few events.
        for version in try await AdapterRepository(rig.client).list() where version.state != .active
        {
          _ = try await rig.client.withTransaction { connection in
            try await AdapterRepository(connection).promote(
              version.stream, version: version.version, force: true)
          }
        }
        let own = try await Self.ask(rig, users, id: "oppu")
        let base = try await Self.ask(rig, users, id: "base", options: ["adapter": "none"])
        await rig.stop(worker)

        // The more, the more the comparison tells.
        let different = Set(offline.flatMap(\.predictions.values).joined()).count
        print("\(method): \(different) different answers")
        for (user, outcome) in zip(users, offline) {
          for (arm, replies) in zip(arms, profiles == nil ? [base, before, own] : [own]) {
            let online = user.queries.map { replies[$0.id]?["output"]?.string }
            #expect(online == outcome.predictions[arm.name], "\(arm.name) of \(user.id)")
          }
          let stream = StreamID(userID: user.id, task: task.name)
          let version = try #require(try await AdapterRepository(rig.client).active(stream))
          // The same training to the last bit.
          #expect(
            version.training.numbers?.lossLastEpoch
              == outcome.trainings["oppu+\(variant.name)"]?.lossLastEpoch)
          #expect(version.profile?.version == (profiles == .model ? 1 : nil))
          #expect(version.profile.map { $0.itemCount == user.history.count } ?? true)
          #expect(version.baseFingerprint == "\(model.fingerprint)+\(taskAdapter.fingerprint)")
        }
        // The same prompts, also where something had to be left out of them.
        let prompt = PersonalPrompt(
          model: model, task: task, variant: variant, settings: settings)
        var cut = 0
        for user in users where profiles == nil {
          let past = prompt.retriever(user.history)
          for query in user.queries {
            let built = try prompt.texts.build(input: query.input, after: past)
            cut += built.cutFields.isEmpty && built.retrieved.count == variant.retrieve ? 0 : 1
            for replies in [base, before, own] {
              let reply = replies[query.id]
              #expect(reply?["usage"]?["prompt_tokens"]?.number == Double(built.tokens))
              #expect(
                reply?["personalization"]?["retrieved"]?.array?.compactMap(\.string)
                  == built.retrieved)
            }
          }
        }
        print("\(cut) prompts were cut to fit")
        // The same losses: what a study computes beside its answers is what the worker's detectors see.
        let served = ServedModel(model, taskAdapters: [task.name: taskAdapter])
        let meter = LossMeter(model: served, client: rig.client, configuration: configuration)
        for user in users {
          let stream = StreamID(userID: user.id, task: task.name)
          let version = try #require(try await AdapterRepository(rig.client).active(stream))
          let profile = version.profile
          let studied = try await ComputeQueue("offline").run {
            try Self.losses(
              user,
              PersonalTraining(
                model: model, task: task, settings: settings, variant: variant,
                over: taskAdapter.adapter), profile: profile, seed: seed)
          }
          let metered = try await meter.losses(
            of: user.history.enumerated().map {
              WatchedEvent(ordinal: Int64($0 + 1), input: $1.input, output: $1.output)
            }, stream: stream, version: version.version, task: task)
          #expect(metered.count == studied.count)
          for (number, loss) in studied.enumerated() {
            let other = try #require(metered[Int64(number + 1)])
            #expect(other == loss, "event \(number)")
          }
        }
        let first = try #require(users[0].queries.first?.id)
        let who = { (replies: [String: JSONValue]) in replies[first]?["personalization"] }
        #expect(who(base)?["task_adapter_version"] == .null)
        #expect(who(before)?["task_adapter_version"] == 1)
        #expect(who(before)?["adapter_version"] == .null)
        #expect(who(own)?["task_adapter_version"] == 1)
        #expect(who(own)?["adapter_version"] == 1)
        #expect(who(own)?["profile_version"] == (profiles == .model ? 1 : .null))
        #expect(who(before)?["profile_version"] == .null)
      }
    }

    @Test("after a shift answers retrieve from where training did, without the adapter from all")
    func shifted() async throws {
      let stream = StreamID(userID: "kim", task: "film_tag")
      try await Rig.with(partitions: 1) { rig in
        // The same films before the change and after it.
        try await rig.client.addEvents(
          (0..<24).map {
            (
              input: ["film": .string("The paper harbour, part \($0 % 12)")],
              output: $0 < 12 ? "funny" : "sad"
            )
          }, to: stream)
        _ = try await JobQueue(rig.client).enqueue([
          JobRequest(stream: stream, reason: .shift, changeOrdinal: 13)
        ])
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "train,infer", "OPPU_TRAIN_RANK": "2", "OPPU_TRAIN_EPOCHS": "1",
          "OPPU_PROMPT_RETRIEVE": "12",
        ])
        try await eventually("it is trained", state: rig.log()) {
          try await AdapterRepository(rig.client).get(stream, version: 1) != nil
        }
        func retrieved(_ id: String, adapter: JSONValue) async throws -> Set<String> {
          try await rig.produce(
            JSONValue.object([
              "request_id": .string(id), "user_id": "kim", "task": "film_tag",
              "input": ["film": "The paper harbour, part 3"], "options": ["adapter": adapter],
            ]).canonical, key: "kim", to: rig.kafka.requestTopic)
          var found: JSONValue?
          try await eventually("an answer", state: rig.log()) {
            let count = try await rig.messageCount(rig.kafka.replyTopic)
            for message in try await rig.read(rig.kafka.replyTopic, count: count) {
              let reply = try message.json()
              if reply["request_id"]?.string == id { found = reply["personalization"] }
            }
            return found != nil
          }
          return Set((found?["retrieved"]?.array ?? []).compactMap(\.string))
        }
        let all = try await retrieved("none", adapter: "none")
        let own = try await retrieved("own", adapter: 1)
        await rig.stop(worker)
        let later = Set((13...24).map { "\(stream)-\($0)" })
        #expect(!own.isEmpty && own.isSubset(of: later))
        #expect(!all.isSubset(of: later), "what the base model is shown is the whole history")
      }
    }

    @Test(
      "an adapter that the worker reads back is, over its task's, the one that was trained",
      arguments: TrainingMethod.allCases)
    func readBack(method: TrainingMethod) async throws {
      var generator = Seeded()
      let users = Self.users(["ada", "other"], items: 6, queries: 0, &generator)
      let task = try TaskCatalogue.builtIn.task(named: "film_tag")
      let stream = StreamID(userID: users[0].id, task: task.name)
      var settings = MethodSettings.standard.training(method)
      settings.user.training.rank = 4
      settings.user.maximumTokens = 500
      settings.task.maximumTokens = 500
      let (history, others, few) = (users[0].history, [users[1]], settings)
      let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
      defer { try? FileManager.default.removeItem(at: folder) }
      let (served, trained, own) = try await ComputeQueue("offline").run {
        let model = try LlamaModel.load(path: ShallowModel.path)
        let under = try TaskAdapterStore(folder: folder).train(
          TaskAdaptation(model: model, task: task, settings: few, variant: .plain),
          on: others, queries: false, seed: 1)
        let served = ServedModel(model, taskAdapters: [task.name: try #require(under)])
        let training = PersonalTraining(
          model: model, task: task, settings: few, over: under?.adapter)
        let own = try #require(try training.train(history, seed: 1)).adapter
        return (served, try served.stack(own, task: task.name), own)
      }
      try await withDatabase { client in
        try await client.addEvents(
          history.map { (input: .object($0.input), output: $0.output) }, to: stream)
        _ = try await AdapterImport(client).store(
          NewAdapter(
            stream: stream, parentVersion: nil, baseFingerprint: served.fingerprint(for: task.name),
            configuration: try JSONDecoder().decode(
              JSONValue.self, from: PEFTConfiguration(own, baseModel: "").json()),
            weights: try PEFTFolder.encode(own), trainedThrough: 6,
            training: .imported(from: "a test"),
            gate: GateRecord(
              heldOutExamples: 0, parentLoss: nil, candidateLoss: nil, difference: nil,
              differenceUpperBound: nil, promoted: true, verdict: "")))
        let repository = AdapterRepository(client)
        let cache = AdapterCache(
          model: served, repository: repository, maximumBytes: 1 << 30)
        let record = try #require(try await repository.active(stream))
        let read = try await cache.adapter(record)
        #expect(read.virtualTokens?.array == trained.virtualTokens?.array)
        for layer in 0..<trained.layerCount {
          for projection in Projection.allCases {
            let numbers = [trained, read].map { adapter in
              adapter.changes(layer: layer, projection).map { change in
                [change.factors?.a, change.factors?.b, change.inputScale, change.outputScale]
                  .map { $0?.array }
              }
            }
            let same = numbers[0] == numbers[1]
            #expect(same, "layer \(layer), \(projection)")
          }
        }
      }
    }

    /// The replies to all queries of all users, by the query's id.
    private static func ask(
      _ rig: Rig, _ users: [LaMPUser], id: String, options: JSONValue = [:]
    ) async throws -> [String: JSONValue] {
      var replies: [String: JSONValue] = [:]
      // On a busy machine the database may answer later than a request waits for it: that one is asked again.
      for round in 0..<20 {
        var count = try await rig.messageCount(rig.kafka.replyTopic)
        for user in users {
          for query in user.queries where replies[query.id]?["status"] != "ok" {
            let request = JSONValue.object([
              "request_id": .string("\(id)/\(query.id)/\(round)"), "user_id": .string(user.id),
              "task": "film_tag", "input": .object(query.input), "options": options,
            ])
            try await rig.produce(request.canonical, key: user.id, to: rig.kafka.requestTopic)
            count += 1
          }
        }
        for message in try await rig.read(rig.kafka.replyTopic, count: count) {
          let reply = try message.json()
          let parts = (reply["request_id"]?.string ?? "").split(separator: "/").map(String.init)
          guard parts.count == 3, parts[0] == id, parts[2] == "\(round)" else { continue }
          replies[parts[1]] = reply
        }
        let codes = replies.values.compactMap { $0["error"]?["code"]?.string }
        if codes.allSatisfy({ $0 != "unavailable" && $0 != "deadline_exceeded" }) { break }
        print("asked again: \(codes)")
      }
      return replies
    }
  }
}
