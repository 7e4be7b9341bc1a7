// One file requested with libcurl, redirects included.

import CCurl
import Foundation
import Synchronization

/// What to ask for, and where it goes.
struct Transfer: Sendable {
  let url: URL
  let part: URL
  /// The file of the server's name for this version of the file.
  let tag: URL
  /// Bytes that `part` holds already.
  let start: Int
  let library: CurlLibrary
  /// Seconds for a connection to be made, and for a server to be silent.
  var patience = 60
  /// Called on the transfer's thread with the bytes so far and in all.
  let progress: @Sendable (Int, Int?) -> Void

  /// Returns the SHA-256 that the server names, if any. A cancelled task ends the transfer at once.
  func run() async throws -> String? {
    let stop = StopSignal()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        // libcurl waits for the network: not on a thread of Swift's pool.
        Thread.detachNewThread {
          // A connection that breaks under a write is an error here, not the end of the process.
          var pipe = sigset_t()
          sigemptyset(&pipe)
          sigaddset(&pipe, SIGPIPE)
          pthread_sigmask(SIG_BLOCK, &pipe, nil)
          let exchange = Exchange(self)
          continuation.resume(with: Result { try exchange.run(stop) })
          // May wait for a name that is being looked up, so last.
          exchange.end()
        }
      }
    } onCancel: {
      stop.ask()
    }
  }

  /// Whether a redirect is followed: over HTTP only, and never from https to http.
  static func follows(from old: String, to new: String) -> Bool {
    func scheme(_ address: String) -> String { address.prefix { $0 != ":" }.lowercased() }
    return scheme(new) == "https" || (scheme(new) == "http" && scheme(old) == "http")
  }

  /// One without a status may be taken up again.
  func error(_ problem: String, status: Int? = nil) -> DownloadError {
    DownloadError(url: url.absoluteString, problem: problem, status: status)
  }

  /// With the reason of the call that has just failed.
  func unwritable() -> DownloadError {
    let reason = String(cString: strerror(errno))
    return error("\(part.path) cannot be written: \(reason)", status: 0)
  }
}

/// Ends a transfer from another thread.
private final class StopSignal: Sendable {
  private struct State {
    var isAsked = false
    var wake: (@Sendable () -> Void)?
  }
  private let state = Mutex(State())

  var isAsked: Bool { state.withLock { $0.isAsked } }

  func ask() {
    state.withLock {
      $0.isAsked = true
      $0.wake?()
    }
  }

  /// What gets the transfer out of its waiting; once this has returned, the former is not called again.
  func onAsk(_ wake: (@Sendable () -> Void)?) { state.withLock { $0.wake = wake } }
}

/// libcurl's handles for one transfer. Made and used, by libcurl's callbacks too, on the transfer's
/// thread alone.
private final class Exchange {
  private let transfer: Transfer
  private let library: CurlLibrary
  private let easy: UnsafeMutableRawPointer?
  private let multi: UnsafeMutableRawPointer?
  /// Where libcurl writes what went wrong, more closely than its code says.
  private let detail = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
  private var requestHeaders: UnsafeMutablePointer<curl_slist>?
  private let answer: DownloadAnswer

  init(_ transfer: Transfer) {
    self.transfer = transfer
    library = transfer.library
    answer = DownloadAnswer(transfer)
    easy = library.easyInit()
    multi = library.multiInit()
    detail.pointee = 0
  }

  func end() {
    if let multi { _ = library.multiRemove(multi, easy) }
    if let easy { library.easyCleanup(easy) }
    if let multi { _ = library.multiCleanup(multi) }
    library.listFree(requestHeaders)
    detail.deallocate()
  }

  func run(_ stop: StopSignal) throws -> String? {
    guard let easy, let multi else {
      throw transfer.error("libcurl could not be started", status: 0)
    }
    defer { answer.end() }
    try answer.begin()
    try prepare()
    // Unsafe in name only: this function of libcurl's is the one that is made for other threads, and
    // it is not called after this function, nor so after the handle's end.
    nonisolated(unsafe) let waiting = multi
    let wakeup = library.multiWakeup
    stop.onAsk { _ = wakeup(waiting) }
    defer { stop.onAsk(nil) }

    var address = transfer.url.absoluteString
    guard Transfer.follows(from: "http:", to: address) else {
      throw transfer.error("only http and https addresses can be fetched", status: 0)
    }
    // libcurl could follow redirects itself, but tells no chain's https to http from its http to https.
    for _ in 0...20 {
      try set(CURLOPT_URL, address)
      let code = perform(easy, multi, stop)
      if let failure = answer.failure { throw failure }
      if stop.isAsked { throw transfer.error("it was cancelled") }
      if let total = answer.total, answer.received != total,
        code == CURLE_OK || code == CURLE_PARTIAL_FILE
      {
        throw transfer.error("the connection ended after \(answer.received) of \(total) bytes")
      }
      guard code == CURLE_OK else { throw transfer.error(describe(code)) }
      if answer.isAccepted { return answer.linkedHash }
      let status = answer.status
      guard let next = curl_get_string(library.getInfo, easy, CURLINFO_REDIRECT_URL) else {
        throw transfer.error("the server answered \(status)", status: status)
      }
      let target = String(cString: next)
      guard Transfer.follows(from: address, to: target) else {
        throw transfer.error(
          "the server answered \(status) and sends to \(target), which is not followed",
          status: status)
      }
      address = target
    }
    throw transfer.error("the server redirects without end", status: answer.status)
  }

  private func prepare() throws {
    // A packed answer could not be resumed, and has another length.
    var lines = ["Accept-Encoding: identity"]
    if transfer.start > 0, let known = try? String(contentsOf: transfer.tag, encoding: .utf8),
      !known.isEmpty
    {
      lines += ["Range: bytes=\(transfer.start)-", "If-Range: \(known)"]
    }
    for line in lines {
      guard let longer = library.listAppend(requestHeaders, line) else {
        throw transfer.error("there is no memory for its request", status: 0)
      }
      requestHeaders = longer
    }
    try check(curl_set_pointer(library.setOption, easy, CURLOPT_HTTPHEADER, requestHeaders))
    try check(curl_set_pointer(library.setOption, easy, CURLOPT_ERRORBUFFER, detail))
    try set(CURLOPT_USERAGENT, "oppu-worker")
    // Signals are the process', and there are other threads.
    try set(CURLOPT_NOSIGNAL, 1)
    try set(CURLOPT_PROTOCOLS, Int(CURLPROTO_HTTP | CURLPROTO_HTTPS))
    // A proxy's answer to CONNECT is not the server's.
    try set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
    try set(CURLOPT_CONNECTTIMEOUT, transfer.patience)
    try set(CURLOPT_LOW_SPEED_TIME, transfer.patience)
    try set(CURLOPT_LOW_SPEED_LIMIT, 1)
    let place = Unmanaged.passUnretained(answer).toOpaque()
    try check(curl_set_pointer(library.setOption, easy, CURLOPT_HEADERDATA, place))
    try check(curl_set_pointer(library.setOption, easy, CURLOPT_WRITEDATA, place))
    try check(
      curl_set_callback(library.setOption, easy, CURLOPT_HEADERFUNCTION) { bytes, _, count, place in
        Exchange.take(bytes, count, place) { $0.takeHeader($1) }
      })
    try check(
      curl_set_callback(library.setOption, easy, CURLOPT_WRITEFUNCTION) { bytes, _, count, place in
        Exchange.take(bytes, count, place) { $0.takeBody($1) }
      })
  }

  private func set(_ option: CURLoption, _ value: Int) throws {
    try check(curl_set_number(library.setOption, easy, option, value))
  }

  private func set(_ option: CURLoption, _ value: String) throws {
    try check(curl_set_pointer(library.setOption, easy, option, value))
  }

  private func check(_ code: CURLcode) throws {
    if code != CURLE_OK { throw transfer.error(describe(code), status: 0) }
  }

  private func describe(_ code: CURLcode) -> String {
    detail.pointee != 0 ? String(cString: detail) : String(cString: library.describe(code))
  }

  /// Sends the request and takes its answer. After a stop, the handles are left as they are.
  private func perform(
    _ easy: UnsafeMutableRawPointer, _ multi: UnsafeMutableRawPointer, _ stop: StopSignal
  ) -> CURLcode {
    guard library.multiAdd(multi, easy) == CURLM_OK else { return CURLE_FAILED_INIT }
    var running: Int32 = 0
    repeat {
      guard library.multiPerform(multi, &running) == CURLM_OK else { return CURLE_FAILED_INIT }
      if stop.isAsked { return CURLE_ABORTED_BY_CALLBACK }
      if running > 0 { _ = library.multiPoll(multi, nil, 0, 1000, nil) }
    } while running > 0
    var left: Int32 = 0
    let code = library.multiInfo(multi, &left)?.pointee.data.result
    _ = library.multiRemove(multi, easy)
    return code ?? CURLE_FAILED_INIT
  }

  /// What libcurl's two callbacks have in common: they return how much was taken, and less ends the
  /// transfer.
  private static func take(
    _ bytes: UnsafeMutablePointer<CChar>?, _ count: Int, _ place: UnsafeMutableRawPointer?,
    _ body: (DownloadAnswer, UnsafeRawBufferPointer) -> Void
  ) -> Int {
    guard let place else { return 0 }
    let answer = Unmanaged<DownloadAnswer>.fromOpaque(place).takeUnretainedValue()
    body(answer, UnsafeRawBufferPointer(start: bytes, count: count))
    return answer.failure == nil ? count : 0
  }
}
