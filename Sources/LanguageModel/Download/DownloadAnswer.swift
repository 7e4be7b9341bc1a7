// What a server answers to the request for a file, written as it comes.

import Foundation

/// The answers to one transfer's requests, redirects first. Used on the transfer's thread alone.
final class DownloadAnswer {
  private let transfer: Transfer
  private var file: Int32 = -1
  private var headers: [String: String] = [:]
  private var isHeader = false
  /// Of the answer under way.
  private(set) var status = 0
  /// Whether that answer brings the file, or the rest of it.
  private(set) var isAccepted = false
  /// Bytes of the file, with those that were there before; in all, where the server says so.
  private(set) var received: Int
  private(set) var total: Int?
  /// The SHA-256 that the server names (X-Linked-ETag, in redirects too).
  private(set) var linkedHash: String?
  /// Set where nothing more is wanted.
  private(set) var failure: DownloadError?

  init(_ transfer: Transfer) {
    self.transfer = transfer
    received = transfer.start
  }

  func begin() throws {
    file = open(transfer.part.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    guard file >= 0, ftruncate(file, off_t(transfer.start)) == 0 else {
      throw transfer.unwritable()
    }
  }

  func end() {
    if file >= 0 { close(file) }
    file = -1
  }

  /// A line: the status, a header, or the empty one after the last. What comes after that is a trailer.
  func takeHeader(_ bytes: UnsafeRawBufferPointer) {
    let line = String(decoding: bytes, as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
    if line.hasPrefix("HTTP/") {
      status = line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
      headers = [:]
      isHeader = true
      isAccepted = false
    } else if !line.isEmpty {
      let halves = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      guard isHeader, halves.count == 2 else { return }
      headers[halves[0].lowercased()] = halves[1].trimmingCharacters(in: .whitespaces)
    } else if isHeader, !(100..<200).contains(status) {
      isHeader = false
      noteHash()
      if (300..<400).contains(status), headers["location"] != nil { return }
      do { try accept() } catch { failure = error }
    }
  }

  private func noteHash() {
    let text = headers["x-linked-etag"]?.trimmingCharacters(in: ["\""]).lowercased()
    guard let text, text.utf8.count == 64, text.allSatisfy(\.isHexDigit) else { return }
    linkedHash = text
  }

  private func accept() throws(DownloadError) {
    switch status {
    case 200:
      guard ftruncate(file, 0) == 0 else { throw transfer.unwritable() }
      received = 0
      total = headers["content-length"].flatMap { Int($0) }
    case 206:
      let range = headers["content-range"] ?? ""
      guard range.hasPrefix("bytes \(transfer.start)-") else {
        throw transfer.error(
          "the server answered with the range \"\(range)\"", status: status)
      }
      total = range.split(separator: "/").last.flatMap { Int($0) }
    case 416:
      // All of it is there, or the file is shorter now: the next attempt begins anew.
      try? FileManager.default.removeItem(at: transfer.tag)
      throw transfer.error("there is nothing after byte \(transfer.start)")
    case 401, 403:
      throw transfer.error(
        "the server asks for a login (\(status)); fetch the file by hand", status: status)
    default:
      throw transfer.error("the server answered \(status)", status: status)
    }
    isAccepted = true
    // Without a strong ETag there is nothing to go on from.
    if let etag = headers["etag"], !etag.isEmpty, !etag.hasPrefix("W/") {
      try? etag.write(to: transfer.tag, atomically: true, encoding: .utf8)
    } else {
      try? FileManager.default.removeItem(at: transfer.tag)
    }
  }

  func takeBody(_ bytes: UnsafeRawBufferPointer) {
    // A redirect may have a page of its own.
    guard isAccepted else { return }
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = write(file, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if count < 0 {
        if errno == EINTR { continue }
        failure = transfer.unwritable()
        return
      }
      rest = rest.dropFirst(count)
    }
    received += bytes.count
    transfer.progress(received, total)
  }
}
