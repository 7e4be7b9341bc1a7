// One file over HTTP: goes on where an earlier attempt stopped, is checked, and appears whole or not at
// all.

import Cryptography
import Foundation

/// Why a download failed.
public struct DownloadError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let url: String
  /// Goes on after "The download of … failed:", without a full stop.
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
  /// HTTP or HTTPS.
  public let url: URL
  /// The file; folders above it are made.
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
    /// Of the whole file, in lower-case hexadecimal.
    public let sha256: String
    /// Whether the hash was compared with one that was known before.
    public let isVerified: Bool
    /// Bytes that earlier attempts had left.
    public let resumedFrom: Int
  }

  private var part: URL { destination.appendingPathExtension("part") }
  private var tag: URL { part.appendingPathExtension("etag") }

  /// Fetches, checks and renames. `progress` gets the bytes so far and, where known, in all; it is
  /// called on a thread of the transfer's.
  /// - Throws: ``DownloadError``; what arrived stays for the next attempt unless its hash is wrong.
  public func run(progress: @escaping @Sendable (Int, Int?) -> Void = { _, _ in }) async throws
    -> Outcome
  {
    try await run(with: CurlLibrary.shared, progress: progress)
  }

  func run(
    with library: CurlLibrary?, progress: @escaping @Sendable (Int, Int?) -> Void = { _, _ in }
  ) async throws -> Outcome {
    guard let library else {
      throw DownloadError(
        url: url.absoluteString,
        problem: "it needs libcurl 7.68 or newer (package \(CurlLibrary.package))",
        status: 0)
    }
    try FileManager.default.createDirectory(
      at: destination.deletingLastPathComponent(), withIntermediateDirectories: true)
    let resumedFrom = resumable()
    var named: String?
    for attempt in 0... {
      let transfer = Transfer(
        url: url, part: part, tag: tag, start: resumable(), library: library, progress: progress)
      do {
        named = try await transfer.run()
        break
      } catch let error as DownloadError
        where error.status == nil && attempt < retries && !Task.isCancelled
      {
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
