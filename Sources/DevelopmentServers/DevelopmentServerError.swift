// What can go wrong with a server that this process starts.

import Foundation

/// An error in starting or stopping a development server.
public enum DevelopmentServerError: Error, Sendable, CustomStringConvertible, LocalizedError {
  /// A program is missing; `hint` says how to get it.
  case programMissing(name: String, hint: String)
  /// A program could not be started.
  case cannotStart(program: String, reason: String)
  /// A server ended, or a preparing program failed; `log` holds its last lines.
  case failed(program: String, status: String, log: String)
  /// A server did not become ready in time.
  case notReady(program: String, seconds: Int, log: String)
  /// A folder cannot be used.
  case folder(path: String, reason: String)
  /// No port is free, or the one asked for is taken.
  case port(Int, reason: String)

  public var description: String {
    switch self {
    case .programMissing(let name, let hint): "\(name) was not found: \(hint)"
    case .cannotStart(let program, let reason): "\(program) could not be started: \(reason)"
    case .failed(let program, let status, let log):
      "\(program) ended with \(status)\(log.isEmpty ? "" : ": \(log)")"
    case .notReady(let program, let seconds, let log):
      "\(program) was not ready after \(seconds) s\(log.isEmpty ? "" : ": \(log)")"
    case .folder(let path, let reason): "the folder \(path) cannot be used: \(reason)"
    case .port(let port, let reason): "port \(port) cannot be used: \(reason)"
    }
  }

  public var errorDescription: String? { description }
}
