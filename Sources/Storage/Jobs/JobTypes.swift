// What a training job is: its states, why it was asked for, the right to work on it, and how operators see it.

import Foundation
import Personalization

/// Where a job stands: queued and running ones are open, the others are over.
public enum JobState: String, Sendable, Codable, CaseIterable {
  case queued, running, succeeded, dead, cancelled
}

extension TrainingReason {
  /// The reason's share of the queue while jobs of several reasons wait: of fifteen trainings, eight answer
  /// shifts. Operators' jobs do not take part: they go first.
  public var weight: Int64 {
    switch self {
    case .operator, .shift: 8
    case .firstAdapter: 4
    case .newEvents: 2
    case .age: 1
    }
  }

  /// How far one job moves its flow along the places of the queue.
  var step: Int64 { 840 / weight }

  /// In the order of `allCases` the first is the strongest.
  static let order = allCases.map(\.rawValue)
}

/// A wish for a training of a stream.
public struct JobRequest: Sendable {
  public var stream: StreamID
  public var reason: TrainingReason
  /// First event of the new behaviour, where the job answers a shift.
  public var changeOrdinal: Int64?

  public init(stream: StreamID, reason: TrainingReason, changeOrdinal: Int64? = nil) {
    self.stream = stream
    self.reason = reason
    self.changeOrdinal = changeOrdinal
  }
}

/// What became of a request.
public struct EnqueuedJob: Sendable, Equatable {
  /// The new job, or the one that the request was folded into.
  public let jobID: Int64
  /// A job of the stream was queued already and does this work too.
  public let isFolded: Bool
}

/// The right to work on a job until the lease runs out.
public struct JobLease: Sendable {
  public let jobID: Int64
  /// The fencing token: grows with every lease of the job.
  public let token: Int64
  public let stream: StreamID
  public let reason: TrainingReason
  /// First event of the new behaviour, where the job answers a shift.
  public let changeOrdinal: Int64?
  /// From 1.
  public let attempt: Int
}

/// An attempt that did not succeed.
public struct JobFailure: Sendable, Codable, Hashable {
  /// From 1.
  public let attempt: Int
  public let owner: String?
  /// As PostgreSQL writes a time.
  public let at: String
  public let error: String
}

/// A job as operators see it.
public struct JobRecord: Sendable, Codable {
  public let jobID: Int64
  public let userID: String
  public let task: String
  /// A ``TrainingReason``'s raw value.
  public let reason: String
  /// First event of the new behaviour, where the job answers a shift.
  public let changeOrdinal: Int64?
  public let state: JobState
  /// Those begun so far; one that was given back unharmed does not count.
  public let attempts: Int
  /// Further requests for the same training that came while it was queued.
  public let folded: Int
  /// Its place in the queue, where it can be leased; lower ones go first.
  public let place: Int64?
  /// When it can be leased at the earliest, where it waits.
  public let runAt: Date?
  /// The worker that runs it, or that ran it last before it was over; nil while it is queued.
  public let leaseOwner: String?
  /// Nil unless it runs.
  public let leaseExpiresAt: Date?
  /// As the newest heartbeat had it: step, steps, loss, tokens per second.
  public let progress: JobProgress?
  /// What the trainer reported at the end; nil unless it succeeded.
  public let result: JobResult?
  /// The newest; nil where there was none, or the job succeeded.
  public let error: String?
  /// One for each attempt that did not succeed.
  public let failures: [JobFailure]?
  public let createdAt: Date
  /// Of the newest attempt.
  public let startedAt: Date?
  /// Nil while it is open.
  public let finishedAt: Date?

  public var stream: StreamID { StreamID(userID: userID, task: task) }

  enum CodingKeys: String, CodingKey {
    case task, reason, state, attempts, folded, place, progress, result, error, failures
    case jobID = "job_id"
    case userID = "user_id"
    case changeOrdinal = "change_ordinal"
    case runAt = "run_at"
    case leaseOwner = "lease_owner"
    case leaseExpiresAt = "lease_expires_at"
    case createdAt = "created_at"
    case startedAt = "started_at"
    case finishedAt = "finished_at"
  }
}

/// The lease belongs to somebody else by now, or the job is gone or was cancelled.
public struct LostLeaseError: Error, CustomStringConvertible {
  public let jobID: Int64

  public init(jobID: Int64) { self.jobID = jobID }

  public var description: String {
    "the lease of training job \(jobID) was lost; its result is discarded"
  }
}

/// A job is not in a state in which this can be done with it.
public struct JobStateError: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}
