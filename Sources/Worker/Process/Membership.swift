// Members of consumer groups that Kafka has fenced: made anew under a name that is this process's own.
//
// A group's coordinator that stood still for a while may carry out a join that its sender has given up since; it
// then takes the name for a new member's and fences the one that works, though both are the same process. Who has
// the name is known otherwise: the number in it is an advisory lock in PostgreSQL (`WorkerSlot`). Where another
// process took it while the connection that held the lock was gone, this one goes on under another number.

import Foundation
import KafkaClient
import Services
import StructuredLogging

/// How often a consumer may be fenced under its own name before something else must be wrong. A pure value.
struct FenceLimit: Sendable {
  static let times = 5
  static let window = Duration.seconds(300)
  private var fences: [ContinuousClock.Instant] = []

  /// Notes that it was fenced, and says how long to wait before it is made anew; nil: no more.
  mutating func pause(at now: ContinuousClock.Instant) -> Duration? {
    fences.removeAll { now - $0 > Self.window }
    fences.append(now)
    guard fences.count <= Self.times else { return nil }
    return .seconds(1 << (fences.count - 1))
  }
}

/// A consumer was fenced again and again though nobody else has this process's number.
struct FencedAgainError: Error, CustomStringConvertible, LocalizedError {
  let name: String
  var description: String {
    "Kafka has fenced the consumer \"\(name)\" more than \(FenceLimit.times) times within five minutes, though no other worker of this database has its number: does one of another database, with the same kafka.groupPrefix, use the same Kafka?"
  }
  var errorDescription: String? { description }
}

extension WorkerConfiguration.Kafka {
  /// Runs the life of a static member of a group, and runs it again where Kafka has fenced it, under a name that is
  /// this process's own.
  /// - Parameter life: makes a consumer, uses and closes it.
  /// - Throws: what `life` throws; ``FencedAgainError``.
  func asMember(
    _ slot: WorkerSlot?, logger: Logger, _ life: () async throws -> Void
  ) async throws {
    var limit = FenceLimit()
    while true {
      do { return try await life() } catch let error as KafkaError where error.isFenced {
        // A name that the configuration gives may be anybody's: it says nothing of the number.
        guard let slot, let fenced = membership(slot)[Self.nameProperty], try await slot.isHeld(),
          let name = membership(slot)[Self.nameProperty]
        else { throw error }
        guard let pause = limit.pause(at: .now) else { throw FencedAgainError(name: name) }
        logger.warning(
          name == fenced
            ? "Kafka has fenced the consumer \"\(name)\", whose name is this process's own; it is made anew: \(error)"
            : "another process has the name of the consumer \"\(fenced)\"; it is made anew as \"\(name)\""
        )
        if Task.isShuttingDownGracefully { return }
        try await Task.sleep(for: pause)
      }
    }
  }
}
