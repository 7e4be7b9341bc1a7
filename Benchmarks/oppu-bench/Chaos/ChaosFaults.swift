// Does to the world of a trial what its plan says, and undoes it.

import DevelopmentServers

struct ChaosFaults: Sendable {
  let servers: ChaosServers
  let workers: ChaosWorkers
  let topics: ChaosTopics
  let crowds: ChaosCrowds
  let ledger: ChaosLedger

  /// Does it, and undoes it after its time.
  func apply(_ fault: ChaosPlan.Fault) async throws {
    let marks = await ledger.begin(fault, areas(of: fault))
    BenchDatabase.say("\(fault)")
    do {
      try await perform(fault)
    } catch {
      await ledger.end(marks)
      throw error
    }
    await ledger.end(marks)
  }

  /// What may be late, or missed, on account of it.
  private func areas(of fault: ChaosPlan.Fault) -> [ChaosLedger.Area] {
    switch fault {
    case .databaseKilled, .databaseHeld, .databaseSlow, .databaseCut, .databaseRefuses,
      .sessionsEnded, .databaseReadOnly, .statementTimeout, .databaseLocked:
      [.database]
    case .brokerStopped, .brokerKilled, .brokerFrozen, .brokerHeld, .brokerSlow, .brokerCut:
      [.broker]
    case .workerKilled, .workerStopped, .workerFrozen, .eventsMadeAnew, .requestsMadeAnew:
      [.workers]
    case .workerStoppedAmid(_, .databaseHeld): [.workers, .database]
    case .workerStoppedAmid(_, .brokerHeld), .workerStoppedAmid(_, .brokerGone):
      [.workers, .broker]
    // The others of a pass wait for the longest answer in it.
    case .longAnswers: [.workers]
    case .eventsTruncated, .offsetsReset, .hugeWeights, .longHistory, .unknownTopics: []
    }
  }

  private func perform(_ fault: ChaosPlan.Fault) async throws {
    switch fault {
    case .databaseKilled(let down): try await servers.killDatabase(down: down)
    case .databaseHeld(let time): await with(.held, on: .database, time)
    case .databaseSlow(let time): await with(.slow(.milliseconds(20)), on: .database, time)
    case .databaseCut: servers.cut(.database)
    case .databaseRefuses(let time): await with(.refusing, on: .database, time)
    case .sessionsEnded: await servers.endOtherSessions()
    case .databaseReadOnly(let time):
      await servers.setting("default_transaction_read_only", "on", time)
    case .statementTimeout(let time): await servers.setting("statement_timeout", "'30ms'", time)
    case .databaseLocked(let time): try await servers.lockTables(time)
    case .brokerStopped(let index, let down):
      try await topics.withoutSending {
        try await servers.restartBroker(index, isKilled: false, down: down)
      }
    case .brokerKilled(let index, let down):
      try await servers.restartBroker(index, isKilled: true, down: down)
    case .brokerFrozen(let index, let time): try await servers.freezeBroker(index, time)
    case .brokerHeld(let index, let time): await with(.held, on: .broker(index), time)
    case .brokerSlow(let index, let time):
      await with(.slow(.milliseconds(50)), on: .broker(index), time)
    case .brokerCut(let index): servers.cut(.broker(index))
    case .workerKilled(let index, let down):
      await workers.kill(index)
      await servers.pause(down)
      await workers.want()
    case .workerStopped(let index, let down):
      await workers.stop(index)
      await servers.pause(down)
      await workers.want()
    case .workerFrozen(let index, let time): await workers.freeze(index, time)
    case .workerStoppedAmid(let index, let trouble): await stop(index, amid: trouble)
    case .eventsMadeAnew(let isDown): try await topics.makeEventsAnew(withWorkersDown: isDown)
    case .requestsMadeAnew(let isDown): try await topics.makeRequestsAnew(withWorkersDown: isDown)
    case .eventsTruncated: try await topics.truncateEvents()
    case .offsetsReset: try await topics.resetOffsets()
    case .hugeWeights: try await crowds.askWithHugeWeights()
    case .longHistory: try await crowds.askOfLongHistory()
    case .unknownTopics: try await crowds.askForUnknownTopics()
    case .longAnswers: try await crowds.askForLongAnswers()
    }
  }

  private func with(
    _ mode: LoopbackProxy.Mode, on server: ChaosServers.Server, _ time: Duration
  ) async {
    servers.set(mode, to: server)
    await servers.pause(time)
    servers.set(.open, to: server)
  }

  /// The trouble lasts until the worker has stopped, or has not in the time that it may take.
  private func stop(_ index: Int, amid trouble: ChaosPlan.Fault.Trouble) async {
    let server: ChaosServers.Server = trouble == .databaseHeld ? .database : .brokers
    servers.set(trouble == .brokerGone ? .refusing : .held, to: server)
    // So that everything it has under way waits for the server.
    await servers.pause(.seconds(5))
    await workers.stop(index)
    servers.set(.open, to: server)
    await workers.want()
  }
}
