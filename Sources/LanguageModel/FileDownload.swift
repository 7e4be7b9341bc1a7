// One file over HTTP: goes on where an earlier attempt stopped, is checked, and appears whole or not at
// all.

import Cryptography
import Foundation
import Synchronization

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// Why a download failed.
public struct DownloadError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let url: String
  public let problem: String
  /// The server's status where it was not a success.
  public let status: Int?

  public init(url: String, problem: String, status: Int? = nil) {
    self.url = url
    self.problem = problem
    self.status = status
  }

  public var description: String { "The download of \(url) failed: \(problem)." }
  public var errorDescription: String? { description }
}

/// A file to fetch. While it is under way its bytes are in `destination` + ".part", and the server's
/// name for this version of the file (ETag) in ".part.etag": with both there, a later attempt asks for
/// the rest only, and the server sends everything where the file has changed since.
public struct FileDownload: Sendable {
  public let url: URL
  public let destination: URL
  /// In hexadecimal; where nil, the one that a Hugging Face server names (X-Linked-ETag), if any.
  public let sha256: String?
  /// How often a broken connection is taken up again.
  public let retries: Int

  public init(url: URL, destination: URL, sha256: String? = nil, retries: Int = 3) {
    self.url = url
    self.destination = destination
    self.sha256 = sha256
    self.retries = retries
  }

  /// What arrived.
  public struct Outcome: Sendable, Equatable {
    /// Of the whole file.
    public let bytes: Int
    public let sha256: String
    /// Whether the hash was compared with one that was known before.
    public let isVerified: Bool
    /// Bytes that earlier attempts had left.
    public let resumedFrom: Int
  }

  private var part: URL { destination.appendingPathExtension("part") }
  private var tag: URL { part.appendingPathExtension("etag") }

  /// Fetches, checks and renames. `progress` gets the bytes so far and, where known, in all; it is
  /// called on a thread of the session's.
  /// - Throws: ``DownloadError``; what arrived stays for the next attempt unless its hash is wrong.
  public func run(progress: @escaping @Sendable (Int, Int?) -> Void = { _, _ in }) async throws
    -> Outcome
  {
    try FileManager.default.createDirectory(
      at: destination.deletingLastPathComponent(), withIntermediateDirectories: true)
    let resumedFrom = resumable()
    var named: String?
    for attempt in 0... {
      let transfer = try Transfer(
        url: url, part: part, tag: tag, from: resumable(), progress: progress)
      do {
        named = try await transfer.run()
        break
      } catch let error as DownloadError where error.status == nil && attempt < retries {
        continue
      }
    }
    let (bytes, hash) = try Self.hash(of: part)
    if let expected = sha256?.lowercased() ?? named, expected != hash {
      try? FileManager.default.removeItem(at: part)
      try? FileManager.default.removeItem(at: tag)
      throw DownloadError(
        url: url.absoluteString,
        problem: "its SHA-256 is \(hash), expected \(expected); nothing was kept")
    }
    guard rename(part.path, destination.path) == 0 else {
      throw DownloadError(
        url: url.absoluteString,
        problem: "\(destination.path) cannot be written: \(String(cString: strerror(errno)))")
    }
    try? FileManager.default.removeItem(at: tag)
    return Outcome(
      bytes: bytes, sha256: hash, isVerified: sha256 != nil || named != nil,
      resumedFrom: resumedFrom)
  }

  /// Bytes of an earlier attempt that the server can be asked to go on from.
  private func resumable() -> Int {
    guard FileManager.default.fileExists(atPath: tag.path),
      let size = try? FileManager.default.attributesOfItem(atPath: part.path)[.size] as? Int
    else { return 0 }
    return size
  }

  /// The size and SHA-256, in hexadecimal, of a file.
  public static func hash(of file: URL) throws -> (bytes: Int, hash: String) {
    let handle = try FileHandle(forReadingFrom: file)
    defer { try? handle.close() }
    var hash = SHA256()
    var bytes = 0
    while let data = try handle.read(upToCount: 1 << 20), !data.isEmpty {
      hash.update(data: data)
      bytes += data.count
    }
    return (bytes, hash.finalize().hexadecimal)
  }
}

/// One request and its answer, written to a file as it comes.
private final class Transfer: NSObject, URLSessionDataDelegate, Sendable {
  private struct State {
    var file: FileHandle
    var received: Int
    var total: Int?
    var linkedHash: String?
    var failure: DownloadError?
    var continuation: CheckedContinuation<String?, any Error>?
  }

  private let url: URL
  private let part: URL
  private let tag: URL
  private let start: Int
  private let progress: @Sendable (Int, Int?) -> Void
  private let state: Mutex<State>

  init(
    url: URL, part: URL, tag: URL, from start: Int,
    progress: @escaping @Sendable (Int, Int?) -> Void
  ) throws {
    self.url = url
    self.part = part
    self.tag = tag
    self.start = start
    self.progress = progress
    if !FileManager.default.fileExists(atPath: part.path) {
      guard FileManager.default.createFile(atPath: part.path, contents: nil) else {
        throw DownloadError(
          url: url.absoluteString, problem: "\(part.path) cannot be written", status: 0)
      }
    }
    let file = try FileHandle(forWritingTo: part)
    try file.truncate(atOffset: UInt64(start))
    state = Mutex(State(file: file, received: start))
  }

  /// Returns the SHA-256 that the server names, if any.
  func run() async throws -> String? {
    var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData)
    request.setValue("oppu-worker", forHTTPHeaderField: "User-Agent")
    // A packed answer could not be resumed, and has another length.
    request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
    if start > 0, let known = try? String(contentsOf: tag, encoding: .utf8) {
      request.setValue("bytes=\(start)-", forHTTPHeaderField: "Range")
      request.setValue(known, forHTTPHeaderField: "If-Range")
    }
    let session = URLSession(configuration: .ephemeral, delegate: self, delegateQueue: nil)
    defer { session.finishTasksAndInvalidate() }
    let task = session.dataTask(with: request)
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        state.withLock { $0.continuation = continuation }
        task.resume()
      }
    } onCancel: {
      task.cancel()
    }
  }

  private func error(_ problem: String, status: Int? = nil) -> DownloadError {
    DownloadError(url: url.absoluteString, problem: problem, status: status)
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask,
    willPerformHTTPRedirection response: HTTPURLResponse,
    newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
  ) {
    noteHash(response)
    var request = request
    // Whatever copies headers to the new request, these have to be there.
    for name in ["Range", "If-Range", "Accept-Encoding"] {
      request.setValue(
        task.originalRequest?.value(forHTTPHeaderField: name), forHTTPHeaderField: name)
    }
    // Only from https to https.
    let isDowngrade = url.scheme == "https" && request.url?.scheme != "https"
    completionHandler(isDowngrade ? nil : request)
  }

  private func noteHash(_ response: HTTPURLResponse) {
    let text = response.value(forHTTPHeaderField: "X-Linked-ETag")?
      .trimmingCharacters(in: ["\""]).lowercased()
    guard let text, text.utf8.count == 64, text.allSatisfy(\.isHexDigit) else { return }
    state.withLock { $0.linkedHash = text }
  }

  func urlSession(
    _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
    completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
  ) {
    guard let response = response as? HTTPURLResponse else { return completionHandler(.cancel) }
    noteHash(response)
    let length = response.value(forHTTPHeaderField: "Content-Length").flatMap { Int($0) }
    let isAccepted: Bool = state.withLock { state in
      switch response.statusCode {
      case 200:
        do {
          try state.file.truncate(atOffset: 0)
        } catch {
          state.failure = self.error("\(part.path) cannot be written: \(error)", status: 0)
          return false
        }
        state.received = 0
        state.total = length
      case 206:
        let range = response.value(forHTTPHeaderField: "Content-Range") ?? ""
        guard range.hasPrefix("bytes \(start)-") else {
          state.failure = self.error("the server answered with the range \"\(range)\"", status: 206)
          return false
        }
        state.total = length.map { $0 + start }
      case 416:
        // All of it is there, or the file is shorter now: the next attempt begins anew.
        try? FileManager.default.removeItem(at: tag)
        state.failure = self.error("there is nothing after byte \(start)")
        return false
      case 401, 403:
        state.failure = self.error(
          "the server asks for a login (\(response.statusCode)); fetch the file by hand",
          status: response.statusCode)
        return false
      default:
        state.failure = self.error(
          "the server answered \(response.statusCode)", status: response.statusCode)
        return false
      }
      return true
    }
    if isAccepted {
      // Without a strong ETag there is nothing to go on from.
      let etag = response.value(forHTTPHeaderField: "ETag")
      if let etag, !etag.hasPrefix("W/") {
        try? etag.write(to: tag, atomically: true, encoding: .utf8)
      } else {
        try? FileManager.default.removeItem(at: tag)
      }
    }
    completionHandler(isAccepted ? .allow : .cancel)
  }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    let (received, total, isFull) = state.withLock { state in
      do {
        try state.file.write(contentsOf: data)
        state.received += data.count
      } catch {
        state.failure = self.error("\(part.path) cannot be written: \(error)", status: 0)
      }
      return (state.received, state.total, state.failure != nil)
    }
    if isFull { dataTask.cancel() } else { progress(received, total) }
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?
  ) {
    let (continuation, result) = state.withLock {
      state -> (CheckedContinuation<String?, any Error>?, Result<String?, any Error>) in
      try? state.file.close()
      defer { state.continuation = nil }
      if let failure = state.failure { return (state.continuation, .failure(failure)) }
      if let error {
        return (state.continuation, .failure(self.error(error.localizedDescription)))
      }
      if let total = state.total, state.received != total {
        return (
          state.continuation,
          .failure(self.error("the connection ended after \(state.received) of \(total) bytes"))
        )
      }
      return (state.continuation, .success(state.linkedHash))
    }
    continuation?.resume(with: result)
  }
}
