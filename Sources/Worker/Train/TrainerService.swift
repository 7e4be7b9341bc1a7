// The train role: leases jobs, keeps the leases alive while it computes, and finishes each in one transaction.

import FineTuning
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

/// The role `train`: works on the jobs of the queue.
public struct TrainerService: Service {
  private let settings: WorkerConfiguration.Train
  private let variant: PromptVariant
  private let profileKind: UserProfile.Kind
  private let catalogue: TaskCatalogue
  private let model: ServedModel
  private let client: PostgresClient
  private let jobs: JobRepository
  private let claimer: JobClaimer
  private let logger: Logger

  /// Events of a history that a training looks at, newest first.
  private static let historyLimit = 1_000

  public init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel,
    client: PostgresClient, logger: Logger
  ) {
    settings = configuration.train
    variant = configuration.prompt.variant
    profileKind = configuration.prompt.profileKind
    self.catalogue = catalogue
    self.model = model
    self.client = client
    jobs = JobRepository(client)
    claimer = JobClaimer(
      client: client,
      owner: "\(ProcessInfo.processInfo.hostName)-\(ProcessInfo.processInfo.processIdentifier)",
      leaseDuration: configuration.train.leaseDuration)
    self.logger = logger
  }

  public func run() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 1...max(1, settings.concurrency) {
        group.addTask { try await work(number) }
      }
      try await group.waitForAll()
    }
    logger.info("train stopped")
  }

  private func work(_ number: Int) async throws {
    let compute = ComputeQueue("train-\(number)")
    var backoff = Backoff()
    while !Task.isShuttingDownGracefully {
      do {
        let lease = try await claimer.claim(name: "-\(number)").first
        backoff = Backoff()
        if let lease {
          try await carryOut(lease, on: compute)
        } else {
          await cancelWhenGracefulShutdown {
            try? await Task.sleep(for: settings.pollInterval)
          }
        }
      } catch let error as PostgresError where error.isRetryable {
        logger.warning("train: \(error); trying again")
        try await backoff.wait()
      }
    }
  }

  private func carryOut(_ lease: JobLease, on compute: ComputeQueue) async throws {
    var log = logger
    log[metadataKey: "job"] = "\(lease.jobID)"
    log[metadataKey: "stream"] = "\(lease.stream)"
    log.info("training started", metadata: ["reason": "\(lease.reason.rawValue)"])
    do {
      let version = try await train(lease, on: compute)
      log.info("training finished", metadata: ["version": "\(version.map(String.init) ?? "none")"])
    } catch is LostLeaseError {
      log.warning(
        "the lease was lost: somebody else does this job, or it was cancelled, or its user erased")
    } catch is TrainingStopped {
      try await jobs.release(lease)
      log.info("training given back")
    } catch let error as PostgresError where error.isRetryable {
      // No fault of the job's: a lease that nobody works on would run out and count as an attempt.
      try await retryingDatabase("giving a training back", logger: log) {
        try await jobs.release(lease)
      }
      log.info("training given back")
      throw error
    } catch {
      // Also what PostgreSQL refuses for good: the job fails, not the worker with its other jobs.
      log.error("training failed: \(error)")
      let again = lease.attempt < settings.maximumAttempts
      let pause = Self.pause(afterAttempt: lease.attempt, random: .random(in: 0..<1))
      do {
        try await jobs.fail(lease, error: "\(error)", retryAfter: again ? pause : nil)
      } catch is LostLeaseError {
        log.warning("the lease was lost before the failure could be recorded")
      }
    }
  }

  /// Doubling pauses, so that a fault that passes has passed by then; with jitter, so that jobs which failed
  /// together, because of the same fault, do not all come again together.
  /// - Parameter random: from 0 to 1: half to one and a half times 20 s, 40 s, 80 s …
  static func pause(afterAttempt attempt: Int, random: Double) -> Duration {
    .seconds(Double(10 << min(max(attempt, 1), 6)) * (0.5 + random))
  }

  /// Computes while heartbeats keep the lease; returns the version that came of it.
  private func train(_ lease: JobLease, on compute: ComputeQueue) async throws -> Int? {
    guard let task = catalogue[lease.stream.task] else {
      throw MessageError.unknownTask(lease.stream.task, in: catalogue)
    }
    try await jobs.announce(lease)
    let input = TrainingInput(
      stream: lease.stream, task: task,
      history: try await HistoryRepository(client).events(
        of: lease.stream, limit: Self.historyLimit),
      parent: try await parent(of: lease.stream, on: compute), changeOrdinal: lease.changeOrdinal,
      seed: settings.seed)
    let progress = ComputeProgress<JobProgress>()
    let run = JobTraining(
      model: model, settings: settings, variant: variant, profileKind: profileKind,
      progress: progress)
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        // Ends by cancellation; where it fails instead, the computation is stopped.
        do {
          try await keep(lease, progress: progress)
        } catch {
          progress.stop()
          throw error
        }
      }
      let outcome: TrainingOutcome
      do {
        outcome = try await withTaskCancellationHandler {
          try await compute.run { try run.run(input) }
        } onCancel: {
          progress.stop()
        }
      } catch is TrainingStopped {
        // The heartbeat may know better why: a lost lease is not to be given back.
        while let ended = await group.nextResult() {
          if case .failure(let error) = ended, error is LostLeaseError { throw error }
        }
        throw TrainingStopped()
      }
      group.cancelAll()
      switch outcome {
      case .adapter(let adapter):
        return try await retryingDatabase("storing an adapter", logger: logger) {
          try await jobs.finish(lease, adapter: adapter)
        }
      case .nothing(let reason):
        return try await jobs.finish(lease, adapter: nil, note: reason)
      }
    }
  }

  /// Heartbeats until cancelled, three for each lease, and looks every second whether the job was cancelled or
  /// erased. Throws `LostLeaseError`, or ``TrainingStopped`` where the worker shuts down.
  private func keep(_ lease: JobLease, progress: ComputeProgress<JobProgress>) async throws {
    let interval = settings.leaseDuration / 3
    var nextBeat = ContinuousClock.now + interval
    while !Task.isCancelled {
      let pause = min(Self.watchInterval, interval)
      await cancelWhenGracefulShutdown { try? await Task.sleep(for: pause) }
      if Task.isCancelled { return }
      if Task.isShuttingDownGracefully { throw TrainingStopped() }
      do {
        if ContinuousClock.now >= nextBeat {
          nextBeat = .now + interval
          try await jobs.heartbeat(
            lease, duration: settings.leaseDuration, progress: progress.latest)
        } else if try await !jobs.holds(lease) {
          throw LostLeaseError(jobID: lease.jobID)
        }
      } catch let error as PostgresError where error.isRetryable {
        // The lease has two more intervals; a database that is away for longer costs the job.
        logger.warning("heartbeat: \(error)")
      }
    }
  }

  private static let watchInterval: Duration = .seconds(1)

  /// The active version, where it belongs to this base model and can be continued with these settings.
  private func parent(
    of stream: StreamID, on compute: ComputeQueue
  ) async throws -> (record: AdapterRecord, adapter: Adapter)? {
    let repository = AdapterRepository(client)
    guard let record = try await repository.active(stream) else { return nil }
    do {
      let weights = try await repository.weights(stream, version: record.version)
      let adapter = try await compute.run { [model] in
        try StoredAdapter.decode(record, weights: weights, model: model)
      }
      guard settings.method.user.training.canContinue(adapter) else {
        logger.notice(
          "the active adapter has other settings; training from the beginning",
          metadata: ["stream": "\(stream)"])
        return nil
      }
      return (record, adapter)
    } catch let error where !(error is PostgresError) {
      logger.warning(
        "the active adapter cannot be continued, training from the beginning: \(error)",
        metadata: ["stream": "\(stream)"])
      return nil
    }
  }
}
