// What has to be looked after in a system however many workers it has: each task by one process at a time.

import Foundation
import PostgresClient
import Services
import Storage
import StructuredLogging

/// Something that is looked after: a lock of its own, and steps that are over soon.
public protocol MaintenanceTask: Sendable {
  /// As the log has it.
  static var name: String { get }
  /// Who has it does the steps; no two tasks share one, so that none holds up another.
  static var lock: AdvisoryLock { get }
  /// Between two steps that left nothing to do.
  static var pause: Duration { get }

  /// A bounded piece of the work, inside the transaction that holds the lock.
  /// - Throws: `PostgresError`.
  mutating func step(on connection: PostgresConnection) async throws -> MaintenanceStep
}

/// What a step did.
public struct MaintenanceStep: Sendable, Equatable {
  /// How many of what; empty where nothing had to be done.
  public var counts: [String: Int] = [:]
  /// Whether there may be more to do at once.
  public var isFull = false

  /// Leaves out what there was none of.
  public init(_ counts: KeyValuePairs<String, Int>, isFull: Bool = false) {
    for (name, count) in counts where count != 0 { self.counts[name] = count }
    self.isFull = isFull
  }
}

extension MaintenanceTask {
  /// Does a step, unless another process is at it.
  /// - Returns: nil where another one is.
  /// - Throws: `PostgresError`.
  mutating func stepIfFree(_ client: PostgresClient) async throws -> MaintenanceStep? {
    // What a step remembers holds only once it is committed.
    var next = self
    let step: MaintenanceStep? = try await client.withTransaction { connection in
      guard try await Self.lock.isTaken(inTransaction: connection) else { return nil }
      return try await next.step(on: connection)
    }
    self = next
    return step
  }
}

/// Does each of its tasks in a loop of its own.
public struct MaintenanceService: Service {
  private let tasks: [any MaintenanceTask]
  private let client: PostgresClient
  private let logger: Logger

  /// After a step that left something, and after one that did not, the pause is this many times what the step took:
  /// looking after things is never what a database is busy with.
  private static let pausesWhileFull = 3
  private static let pauses = 20

  public init(tasks: [any MaintenanceTask], client: PostgresClient, logger: Logger) {
    self.tasks = tasks
    self.client = client
    self.logger = logger
  }

  public func run() async throws {
    await cancelWhenGracefulShutdown {
      await withTaskGroup(of: Void.self) { group in
        for task in tasks { group.addTask { await keep(at: task) } }
      }
    }
  }

  /// Until cancelled. What fails is tried again: other roles need this as little as this needs them.
  private func keep(at task: some MaintenanceTask) async {
    let name = type(of: task).name
    var task = task
    while !Task.isCancelled {
      var pause = type(of: task).pause
      let begin = ContinuousClock.now
      do {
        if let step = try await task.stepIfFree(client) {
          if !step.counts.isEmpty {
            logger.info("\(name)", metadata: step.counts.mapValues { "\($0)" })
          }
          let cost = ContinuousClock.now - begin
          pause = step.isFull ? cost * Self.pausesWhileFull : max(pause, cost * Self.pauses)
        }
      } catch {
        if !Task.isCancelled { logger.warning("\(name): \(error); trying again later") }
      }
      try? await Task.sleep(for: pause)
    }
  }
}
