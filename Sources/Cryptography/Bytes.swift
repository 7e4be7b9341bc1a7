// Bytes: as hexadecimal text, compared in constant time, and random.

import COpenSSL
import Foundation

private let digits = Array("0123456789abcdef".utf8)

extension Sequence<UInt8> {
  /// Two lower-case digits a byte.
  public var hexadecimal: String {
    String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}

extension [UInt8] {
  /// Reads two digits a byte, of either case and with nothing between them.
  ///
  /// - Throws: `CryptographyError.invalidInput` for an odd number of digits or anything else.
  public init(hexadecimal text: String) throws {
    let values = text.lowercased().utf8.compactMap { digits.firstIndex(of: $0).map(UInt8.init) }
    guard values.count == text.utf8.count, values.count.isMultiple(of: 2) else {
      throw CryptographyError.invalidInput("not two hexadecimal digits for each byte")
    }
    self = stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
  }
}

/// Whether two sequences of bytes are equal, in a time that tells only their lengths.
public func equalInConstantTime(_ one: some ContiguousBytes, _ other: some ContiguousBytes) -> Bool
{
  one.withUnsafeBytes { one in
    other.withUnsafeBytes { other in
      one.count == other.count && CRYPTO_memcmp(one.baseAddress, other.baseAddress, one.count) == 0
    }
  }
}

/// Bytes of OpenSSL's generator, which the system's entropy seeds; public ones, such as nonces.
///
/// - Throws: `CryptographyError` for a count below 0 and where there is no entropy.
public func randomBytes(_ count: Int) throws -> [UInt8] {
  guard count >= 0 else { throw CryptographyError.invalidInput("\(count) random bytes") }
  var bytes = [UInt8](repeating: 0, count: count)
  try OpenSSL.check(RAND_bytes_ex(OpenSSL.context, &bytes, count, 0), "random bytes")
  return bytes
}
