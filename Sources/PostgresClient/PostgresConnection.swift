// One connection to PostgreSQL. libpq's calls block, so the actor runs on a thread of its own
// (a serial dispatch queue) and never on Swift's cooperative pool.

import CLibPQ
import Dispatch
import StructuredLogging
import Synchronization

/// Runs an actor's jobs one after another on a dispatch queue.
final class SerialQueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  init(label: String) { queue = DispatchQueue(label: label) }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}

/// A connection, lent by `PostgresClient.withConnection`.
///
/// Statements run one after another. Cancelling the task that waits for a statement cancels the
/// statement on the server and throws `CancellationError`.
public actor PostgresConnection {
  private let executor = SerialQueueExecutor(label: "oppu.postgres")
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  private let configuration: PostgresConfiguration
  private let logger: Logger
  private var handle: Handle?
  private let canceller = StatementCanceller()
  private var savepoints = 0

  /// Owns the PGconn.
  private final class Handle {
    let pointer: OpaquePointer
    let notices: NoticeLog

    init(owning pointer: OpaquePointer, logger: Logger) {
      self.pointer = pointer
      notices = NoticeLog(logger: logger)
      // The processor is only called inside libpq calls on this connection, so the unretained
      // reference is alive whenever it is used: `self` holds both.
      PQsetNoticeProcessor(
        pointer,
        { context, message in
          guard let context, let message else { return }
          Unmanaged<NoticeLog>.fromOpaque(context).takeUnretainedValue()
            .log(String(cString: message))
        }, Unmanaged.passUnretained(notices).toOpaque())
    }

    deinit { PQfinish(pointer) }
  }

  private final class NoticeLog {
    let logger: Logger
    init(logger: Logger) { self.logger = logger }

    func log(_ message: String) {
      let level: Logger.Level = message.hasPrefix("WARNING") ? .warning : .debug
      logger.log(level: level, "PostgreSQL: \(trimmed(message))")
    }
  }

  private init(configuration: PostgresConfiguration, logger: Logger) {
    self.configuration = configuration
    self.logger = logger
  }

  /// Opens a connection.
  ///
  /// - Throws: `PostgresError` of kind `.connection` naming host, port and database, or
  ///   `.invalidParameter` for a malformed connection string.
  static func open(
    _ configuration: PostgresConfiguration, logger: Logger
  ) async throws -> PostgresConnection {
    let connection = PostgresConnection(configuration: configuration, logger: logger)
    try await connection.connect()
    return connection
  }

  private func connect() throws {
    let pointer = try openConnection(configuration)
    let opened = Handle(owning: pointer, logger: logger)
    guard PQstatus(pointer) == CONNECTION_OK else { throw connectionFailure(pointer) }
    canceller.setTarget(StatementCanceller.Target(of: pointer))
    handle = opened
  }

  // MARK: Statements

  /// Runs one statement and returns its rows.
  ///
  /// - Throws: `PostgresError`, or `CancellationError` if the task was cancelled.
  public func query(_ query: PostgresQuery) async throws -> [PostgresRow] {
    try await run(query).rows
  }

  /// Runs one statement and returns how many rows it changed (for SELECT: returned).
  ///
  /// - Throws: as `query(_:)`.
  @discardableResult
  public func execute(_ query: PostgresQuery) async throws -> Int {
    try await run(query).affectedRows
  }

  /// Runs several statements separated by semicolons, without parameters, in one transaction
  /// unless the script says otherwise. For migrations.
  ///
  /// - Throws: as `query(_:)`; statements after the failed one are not run.
  public func executeScript(_ sql: String) async throws {
    try checkNoNUL(sql)
    _ = try await cancellable { connection, pointer in
      try connection.check(PQexec(pointer, sql), on: pointer, query: sql)
    }
  }

  private func run(_ query: PostgresQuery) async throws -> PostgresResultSet {
    try await cancellable { connection, pointer in try connection.send(query, on: pointer) }
  }

  /// Blocks until the statement is done.
  private func send(_ query: PostgresQuery, on pointer: OpaquePointer) throws -> PostgresResultSet {
    let bindings = try query.bindings()
    let sql = query.sql
    try checkNoNUL(sql)
    guard bindings.count <= 65_535 else {
      throw PostgresError.invalidParameter(
        "a statement has \(bindings.count) parameters; PostgreSQL takes at most 65535")
    }
    // All parameters lie in one buffer; pointers into it are made once it no longer moves.
    var storage: [UInt8] = []
    var offsets: [Int?] = []
    var lengths: [Int32] = []
    var formats: [Int32] = []
    for (index, binding) in bindings.enumerated() {
      guard let value = binding.value else {
        offsets.append(nil)
        lengths.append(0)
        formats.append(1)
        continue
      }
      let (bytes, binary) = try value.parameterBytes()
      guard let length = Int32(exactly: bytes.count) else {
        throw PostgresError.invalidParameter(
          "parameter $\(index + 1) has \(bytes.count) bytes; PostgreSQL takes less than 1 GiB")
      }
      offsets.append(storage.count)
      lengths.append(length)
      formats.append(binary ? 1 : 0)
      storage.append(contentsOf: bytes)
    }
    storage.append(0)  // so that even an empty last parameter has an address
    let types = bindings.map { Oid($0.typeOID) }
    let result = storage.withUnsafeBytes { bytes -> OpaquePointer? in
      let values = offsets.map { offset in
        offset.flatMap { bytes.baseAddress?.advanced(by: $0).assumingMemoryBound(to: CChar.self) }
      }
      return PQexecParams(
        pointer, sql, Int32(bindings.count), types, values, lengths, formats, 1)
    }
    return try check(result, on: pointer, query: sql)
  }

  /// Runs blocking work while a cancellation of the current task reaches the server.
  ///
  /// Not isolated, so that the work is handed over explicitly: what is awaited directly under
  /// `withTaskCancellationHandler` inside an actor with an executor of its own runs on Swift's
  /// cooperative pool instead (Swift 6.3, optimised). There, as many statements that wait for a
  /// lock as there are cores keep the lock's holder from ever committing.
  nonisolated func cancellable<T: Sendable>(
    _ work: @Sendable (isolated PostgresConnection, OpaquePointer) throws -> T
  ) async throws -> T {
    let statement = canceller.reserve()
    return try await withTaskCancellationHandler {
      try await perform(statement, work)
    } onCancel: {
      canceller.cancel(statement)
    }
  }

  private func perform<T: Sendable>(
    _ statement: UInt64, _ work: (isolated PostgresConnection, OpaquePointer) throws -> T
  ) throws -> T {
    let pointer = try livePointer()
    canceller.begin(statement)
    defer { canceller.end(statement) }
    try Task.checkCancellation()
    do { return try work(self, pointer) } catch let error as PostgresError
      where error.sqlState == "57014" && Task.isCancelled
    {
      throw CancellationError()
    }
  }

  func livePointer() throws -> OpaquePointer {
    guard let handle else {
      throw PostgresError(kind: .connection, message: "this connection is closed")
    }
    return handle.pointer
  }

  // MARK: Transactions

  /// Runs `body` between BEGIN and COMMIT; rolls back if it throws or the task is cancelled.
  ///
  /// - Throws: what `body` throws, or the error of BEGIN or COMMIT.
  @discardableResult
  public func withTransaction<T: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> T
  ) async throws -> T {
    try await execute("BEGIN")
    do {
      let result = try await body(self)
      guard await isTransactionHealthy() else {
        throw PostgresError(
          kind: .misuse,
          message: "a statement failed in this transaction and its error was swallowed;"
            + " use withSavepoint around statements that may fail")
      }
      try await execute("COMMIT")
      return result
    } catch {
      await rollBack("ROLLBACK")
      throw error
    }
  }

  /// Runs `body` under a savepoint of the running transaction, so that its failure undoes only
  /// what `body` did.
  ///
  /// - Throws: what `body` throws, after rolling back to the savepoint.
  @discardableResult
  public func withSavepoint<T: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> T
  ) async throws -> T {
    let name = await nextSavepoint()
    try await execute("SAVEPOINT \(unsafeSQL: name)")
    do {
      let result = try await body(self)
      try await execute("RELEASE SAVEPOINT \(unsafeSQL: name)")
      return result
    } catch {
      await rollBack("ROLLBACK TO SAVEPOINT \(name); RELEASE SAVEPOINT \(name)")
      throw error
    }
  }

  private func nextSavepoint() -> String {
    savepoints += 1
    return "oppu_savepoint_\(savepoints)"
  }

  /// False when the server will turn COMMIT into a rollback.
  private func isTransactionHealthy() -> Bool {
    guard let pointer = handle?.pointer else { return false }
    return PQtransactionStatus(pointer) != PQTRANS_INERROR
  }

  /// Undoes work even in a cancelled task. A connection on which that fails is closed: the server
  /// then rolls back by itself.
  private func rollBack(_ sql: String) {
    guard let pointer = handle?.pointer else { return }
    if PQtransactionStatus(pointer) == PQTRANS_IDLE { return }
    do { _ = try check(PQexec(pointer, sql), on: pointer, query: sql) } catch {
      logger.debug("connection closed because a rollback failed", metadata: ["error": "\(error)"])
      close()
    }
  }

  // MARK: Life

  /// Makes the connection fit to be lent again; false if it has to be thrown away.
  func reset() -> Bool {
    guard let pointer = handle?.pointer, PQstatus(pointer) == CONNECTION_OK else { return false }
    if PQtransactionStatus(pointer) != PQTRANS_IDLE { rollBack("ROLLBACK") }
    return handle != nil && PQstatus(pointer) == CONNECTION_OK
      && PQtransactionStatus(pointer) == PQTRANS_IDLE
  }

  /// Whether an idle connection still stands; asks the socket, not the server.
  func isAlive() -> Bool {
    guard let pointer = handle?.pointer, PQstatus(pointer) == CONNECTION_OK else { return false }
    // An idle server says nothing, so anything to read is a notice or the end of the connection.
    for _ in 0..<4 where isReadable(PQsocket(pointer), timeoutMilliseconds: 0) {
      if PQconsumeInput(pointer) == 0 || PQstatus(pointer) != CONNECTION_OK { return false }
    }
    return PQstatus(pointer) == CONNECTION_OK
  }

  func close() {
    canceller.setTarget(nil)
    handle = nil
  }

  private func checkNoNUL(_ sql: String) throws {
    if sql.utf8.contains(0) {
      throw PostgresError.invalidParameter("a statement contains U+0000")
    }
  }

  /// Takes ownership of a result and turns a failed one into an error.
  @discardableResult
  func check(
    _ result: OpaquePointer?, on pointer: OpaquePointer, query: String
  ) throws -> PostgresResultSet {
    guard let result else {
      var error = statementFailure(on: pointer)
      error.query = PostgresError(kind: .server, message: "", query: query).query
      throw error
    }
    switch PQresultStatus(result) {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
      return PostgresResultSet(owning: result)
    case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
      PQclear(result)
      close()  // the connection now expects COPY data, which this call cannot give
      throw PostgresError(kind: .misuse, message: "COPY goes through copyIn", query: query)
    default:
      defer { PQclear(result) }
      throw serverFailure(result, on: pointer, query: query)
    }
  }
}
