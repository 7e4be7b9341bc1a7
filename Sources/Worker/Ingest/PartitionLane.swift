// One partition from assignment to revocation: its messages are checked and written in their order, one batch
// after the other. The next batch is checked while the one before it is written.

import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging
import Synchronization

/// What all lanes of a process share.
struct LaneContext: Sendable {
  let settings: WorkerConfiguration.Ingest
  let catalogue: TaskCatalogue
  let repository: IngestRepository
  let producer: KafkaProducer
  let slots: WriterSlots
  let logger: Logger

  var limits: MessageQueue.Limits {
    MessageQueue.Limits(messages: settings.batchMessages, bytes: settings.batchBytes)
  }

  /// - Parameter logNumber: of the log whose messages are read.
  func decoder(_ logNumber: Int64) -> EventDecoder {
    var times = EventTimes()
    times.future = settings.future / .seconds(1)
    return EventDecoder(catalogue: catalogue, times: times, logNumber: logNumber)
  }
}

final class PartitionLane: Sendable {
  let partition: TopicPartition
  /// Under which the partition was claimed.
  let epoch: Int64
  let queue = MessageQueue()
  private let progress: Progress
  private let work: Task<Void, Never>

  /// How far PostgreSQL is.
  private final class Progress: Sendable {
    let next: Atomic<Int64>
    /// The next offset after what the lane was given.
    let given: Atomic<Int64>
    /// When it was found that the partition is no longer ours.
    let lostAt = Mutex<ContinuousClock.Instant?>(nil)
    init(_ next: Int64) {
      self.next = Atomic(next)
      given = Atomic(next)
    }
    func lose() { lostAt.withLock { $0 = $0 ?? .now } }
  }

  /// - Parameters:
  ///   - position: where PostgreSQL stands.
  ///   - onFailure: told of an error that ends the lane, but for a partition that is no longer ours.
  init(
    _ position: LogPosition, epoch: Int64, context: LaneContext,
    onFailure: @escaping @Sendable (any Error) -> Void
  ) {
    partition = position.topicPartition
    self.epoch = epoch
    let progress = Progress(position.next)
    self.progress = progress
    let queue = queue
    let writer = LaneWriter(context: context, epoch: epoch, logNumber: position.logNumber)
    work = Task {
      do {
        try await Self.run(queue, from: position, writer: writer, context: context) { next in
          progress.next.store(next, ordering: .relaxed)
        }
      } catch let error as ZombieConsumerError {
        context.logger.warning("\(error)")
        progress.lose()
      } catch is CancellationError {
      } catch {
        onFailure(error)
      }
      queue.close()
    }
  }

  /// The next offset after what PostgreSQL has.
  var next: Int64 { progress.next.load(ordering: .relaxed) }

  /// Adds messages behind those that wait.
  func give(_ messages: ArraySlice<KafkaMessage>) {
    if let last = messages.last { progress.given.store(last.offset + 1, ordering: .relaxed) }
    queue.append(messages)
  }

  /// The next offset after what the lane was given.
  var given: Int64 { progress.given.load(ordering: .relaxed) }

  /// Whether PostgreSQL has all that the lane was given.
  var isDrained: Bool { given <= next }

  /// Whether the partition was taken from us that long ago.
  func isLost(for duration: Duration) -> Bool {
    progress.lostAt.withLock { $0.map { ContinuousClock.now - $0 >= duration } ?? false }
  }

  private static func run(
    _ queue: MessageQueue, from start: LogPosition, writer: LaneWriter, context: LaneContext,
    _ report: @escaping @Sendable (Int64) -> Void
  ) async throws {
    var decoder = context.decoder(start.logNumber)
    var next = start.next
    var writing: Task<Void, any Error>?
    while await queue.waitForMessages() {
      if !queue.holds(1, of: context.limits) {
        try await Task.sleep(for: context.settings.linger)
      }
      // What PostgreSQL has already (the consumer may start a little earlier) is not offered twice.
      let messages = queue.take(context.limits).filter { $0.offset >= next }
      guard let last = messages.last else { continue }
      let batch = CheckedBatch(messages[...], expected: next, decoder: &decoder, context: context)
      next = last.offset + 1
      try await finish(writing)
      let end = next
      writing = Task {
        do {
          try await writer.write(batch)
          report(end)
        } catch {
          // The loop is told at once, though no further message may come.
          queue.close()
          throw error
        }
      }
    }
    try await finish(writing)
  }

  /// Waits for a batch that is being written; a cancellation reaches it.
  private static func finish(_ writing: Task<Void, any Error>?) async throws {
    try await withTaskCancellationHandler {
      try await writing?.value
    } onCancel: {
      writing?.cancel()
    }
  }

  /// Takes nothing more, and returns when the batch in hand is written; after `grace` it is given up.
  func stop(grace: Duration) async {
    queue.close()
    let watch = Task { [work] in
      try await Task.sleep(for: grace)
      work.cancel()
    }
    await work.value
    watch.cancel()
  }
}
