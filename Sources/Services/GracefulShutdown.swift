// How a service learns that it is to come to an end.

import Synchronization

/// What is to happen when one service is told to shut down.
final class Shutdown: Sendable {
  /// That of the service which the task belongs to.
  @TaskLocal static var current: Shutdown?
  /// Nil from the shutdown on.
  private let handlers = Mutex<[Int: @Sendable () -> Void]?>([:])

  var hasBegun: Bool { handlers.withLock { $0 == nil } }

  func begin() {
    let handlers = handlers.withLock { $0.take() } ?? [:]
    for handler in handlers.values { handler() }
  }

  /// Keeps a handler until it is removed; one that comes too late to be kept is called at once.
  func add(_ handler: @escaping @Sendable () -> Void) -> Int? {
    let key = handlers.withLock { handlers -> Int? in
      guard let key = handlers.map({ ($0.keys.max() ?? 0) + 1 }) else { return nil }
      handlers?[key] = handler
      return key
    }
    if key == nil { handler() }
    return key
  }

  func remove(_ key: Int) { handlers.withLock { $0?[key] = nil } }
}

extension Task where Success == Never, Failure == Never {
  /// Whether the service that this task belongs to was told to shut down; false outside services.
  public static var isShuttingDownGracefully: Bool { Shutdown.current?.hasBegun ?? false }
}

/// Runs an operation as a task that is cancelled when the service is told to shut down, or was, and
/// when the caller is cancelled; waits for its end all the same.
/// - Throws: what the operation throws.
public func cancelWhenGracefulShutdown<Value: Sendable, Failure: Error>(
  _ operation: @escaping @Sendable () async throws(Failure) -> Value
) async throws(Failure) -> Value {
  let task = Task { () -> Result<Value, Failure> in
    do throws(Failure) { return .success(try await operation()) } catch { return .failure(error) }
  }
  let key = Shutdown.current?.add { task.cancel() }
  defer { if let key { Shutdown.current?.remove(key) } }
  return try await withTaskCancellationHandler {
    await task.value
  } onCancel: {
    task.cancel()
  }.get()
}

/// Waits until the service is told to shut down.
/// - Throws: `CancellationError` where the task is cancelled.
public func gracefulShutdown() async throws {
  let (told, telling) = AsyncStream.makeStream(of: Void.self)
  // Ends when its task is cancelled.
  await cancelWhenGracefulShutdown { for await _ in told {} }
  telling.finish()
  try Task.checkCancellation()
}
