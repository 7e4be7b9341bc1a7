// SHA-256, streaming and at once.

import COpenSSL
import Foundation

/// A running SHA-256 (FIPS 180-4). A copy goes its own way.
public struct SHA256: Sendable {
  /// The 32 bytes of a SHA-256 or of an HMAC with it; `==` takes the same time for all values.
  public struct Digest: Hashable, Sendable, RandomAccessCollection {
    /// Zeros until OpenSSL has written them.
    var bytes = [UInt8](repeating: 0, count: 32)

    public var startIndex: Int { 0 }
    public var endIndex: Int { bytes.count }
    /// A byte, by its index from 0 to 31.
    public subscript(index: Int) -> UInt8 { bytes[index] }
    public static func == (one: Self, other: Self) -> Bool {
      equalInConstantTime(one.bytes, other.bytes)
    }
  }

  /// Owns OpenSSL's state. Unchecked: `SHA256` alone holds it, and changes it only while no other
  /// value refers to it; a shared one is only read.
  private final class State: @unchecked Sendable {
    let context = EVP_MD_CTX_new()

    init() { SHA256.expect(EVP_DigestInit_ex(context, OpenSSL.sha256, nil)) }
    init(_ other: State) { SHA256.expect(EVP_MD_CTX_copy_ex(context, other.context)) }
    deinit { EVP_MD_CTX_free(context) }
  }

  private var state = State()

  /// Of no bytes yet.
  public init() {}

  /// Takes further bytes.
  public mutating func update(bufferPointer: UnsafeRawBufferPointer) {
    if !isKnownUniquelyReferenced(&state) { state = State(state) }
    Self.expect(EVP_DigestUpdate(state.context, bufferPointer.baseAddress, bufferPointer.count))
  }

  /// Takes further bytes.
  public mutating func update(data: some ContiguousBytes) {
    data.withUnsafeBytes { update(bufferPointer: $0) }
  }

  /// The digest of all bytes so far; more may follow.
  public func finalize() -> Digest {
    let last = State(state)
    var digest = Digest()
    Self.expect(EVP_DigestFinal_ex(last.context, &digest.bytes, nil))
    return digest
  }

  /// The digest of these bytes alone.
  public static func hash(data: some ContiguousBytes) -> Digest {
    var digest = Digest()
    data.withUnsafeBytes { data in
      expect(EVP_Digest(data.baseAddress, data.count, &digest.bytes, nil, OpenSSL.sha256, nil))
    }
    return digest
  }

  /// Only memory can fail: the algorithm is compiled in. Without memory Swift ends, too.
  private static func expect(_ result: Int32) {
    precondition(result == 1, "\(OpenSSL.error("SHA-256"))")
  }
}
