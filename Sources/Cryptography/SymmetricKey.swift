// Secret keys: wiped at their end and never shown.

import COpenSSL
import Foundation

/// A secret key. Its bytes are overwritten when the last copy ends, and no description shows them.
public struct SymmetricKey: Sendable, Equatable, ContiguousBytes, CustomStringConvertible {
  /// Owns the bytes. Unchecked: they are written before anybody else has them.
  private final class Storage: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer

    init(_ count: Int) { bytes = .allocate(byteCount: count, alignment: 16) }
    deinit {
      OPENSSL_cleanse(bytes.baseAddress, bytes.count)
      bytes.deallocate()
    }
  }

  private let storage: Storage

  init(byteCount: Int, _ write: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    storage = Storage(byteCount)
    try write(storage.bytes)
  }

  /// Copies the bytes; the caller's own remain the caller's to wipe.
  public init(data: some ContiguousBytes) {
    self = data.withUnsafeBytes { data in .init(byteCount: data.count) { $0.copyMemory(from: data) }
    }
  }

  /// A random key of 32 bytes.
  ///
  /// - Throws: `CryptographyError` where there is no entropy.
  public static func random() throws -> SymmetricKey {
    try SymmetricKey(byteCount: 32) {
      let result = RAND_priv_bytes_ex(OpenSSL.context, $0.baseAddress, $0.count, 0)
      try OpenSSL.check(result, "random key")
    }
  }

  /// The length of the key.
  public var byteCount: Int { storage.bytes.count }
  /// Lends the key's bytes, which must not be kept, nor copied to where nobody wipes them.
  public func withUnsafeBytes<Result>(
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result { try body(UnsafeRawBufferPointer(storage.bytes)) }

  public static func == (one: Self, other: Self) -> Bool { equalInConstantTime(one, other) }
  public var description: String { "a key of \(byteCount) bytes" }
}
