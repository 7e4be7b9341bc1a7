// What all uses of OpenSSL share: one library context, its algorithms, and its errors.

import COpenSSL
import Foundation

/// Why a cryptographic operation gave nothing.
public enum CryptographyError: Error, Hashable, CustomStringConvertible, LocalizedError {
  /// What was to be opened or its associated data were changed, or the key is another one.
  case authenticationFailed
  /// An argument cannot be used; the text says which and why.
  case invalidInput(String)
  /// OpenSSL refused; `reason` is its own word.
  case openSSL(operation: String, reason: String)

  public var description: String {
    switch self {
    case .authenticationFailed: "the data were changed or the key is another one"
    case .invalidInput(let problem): problem
    case .openSSL(let operation, let reason): "\(operation): \(reason)"
    }
  }
  public var errorDescription: String? { description }
}

/// Made once, never changed or freed, and with atomic counts: good for all threads at once. The
/// context of our own reads no openssl.cnf, which could take the algorithms away.
enum OpenSSL {
  nonisolated(unsafe) static let context = OSSL_LIB_CTX_new()
  nonisolated(unsafe) static let sha256 = EVP_MD_fetch(context, "SHA256", nil)
  nonisolated(unsafe) static let aes256GCM = EVP_CIPHER_fetch(context, "AES-256-GCM", nil)

  /// Takes the newest error and empties this thread's queue, which belongs to all its users.
  static func error(_ operation: String) -> CryptographyError {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    let reason = ERR_reason_error_string(code).map { String(cString: $0) }
    return .openSSL(operation: operation, reason: reason ?? "OpenSSL gives no reason")
  }

  static func check(_ result: Int32, _ operation: String) throws {
    if result <= 0 { throw error(operation) }
  }
}
