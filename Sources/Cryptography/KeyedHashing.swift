// What SHA-256 makes with a secret key: authentication codes (HMAC) and other keys (HKDF).

import COpenSSL
import Foundation

/// HMAC with SHA-256 (RFC 2104).
public enum HMACSHA256 {
  /// - Throws: `CryptographyError` where OpenSSL has no memory.
  public static func authenticationCode(
    for data: some ContiguousBytes, using key: SymmetricKey
  ) throws -> SHA256.Digest {
    var code = SHA256.Digest()
    let made = key.withUnsafeBytes { key in
      data.withUnsafeBytes { data in
        EVP_Q_mac(
          OpenSSL.context, "HMAC", nil, "SHA256", nil, key.baseAddress, key.count,
          data.baseAddress, data.count, &code.bytes, code.count, nil)
      }
    }
    if made == nil { throw OpenSSL.error("HMAC") }
    return code
  }

  /// Whether a code is that of the data, in a time that does not tell how much of it is right.
  ///
  /// - Throws: `CryptographyError` where OpenSSL has no memory.
  public static func isValid(
    _ code: some ContiguousBytes, for data: some ContiguousBytes, using key: SymmetricKey
  ) throws -> Bool {
    equalInConstantTime(code, try authenticationCode(for: data, using: key).bytes)
  }
}

/// HKDF with SHA-256 (RFC 5869): other keys from one.
public enum HKDFSHA256 {
  /// - Throws: `CryptographyError` for an empty key, for a key, salt or information of more than
  ///   1,024 bytes (OpenSSL's bound), and for more than 255 × 32 bytes of output.
  public static func deriveKey(
    from key: SymmetricKey, salt: [UInt8] = [], info: [UInt8] = [], byteCount: Int = 32
  ) throws -> SymmetricKey {
    let longest = max(key.byteCount, salt.count, info.count)
    guard 1...255 * 32 ~= byteCount, key.byteCount > 0, longest <= 1_024 else {
      throw CryptographyError.invalidInput(
        "HKDF of \(byteCount) bytes from a key of \(key.byteCount), too few or too many")
    }
    let context = EVP_PKEY_CTX_new_from_name(OpenSSL.context, "HKDF", nil)
    defer { EVP_PKEY_CTX_free(context) }
    func check(_ result: Int32) throws { try OpenSSL.check(result, "HKDF") }
    try check(EVP_PKEY_derive_init(context))
    try check(EVP_PKEY_CTX_set_hkdf_md(context, OpenSSL.sha256))
    try key.withUnsafeBytes {
      try check(EVP_PKEY_CTX_set1_hkdf_key(context, $0.baseAddress, Int32($0.count)))
    }
    try check(EVP_PKEY_CTX_set1_hkdf_salt(context, salt, Int32(salt.count)))
    try check(EVP_PKEY_CTX_add1_hkdf_info(context, info, Int32(info.count)))
    return try SymmetricKey(byteCount: byteCount) { output in
      var count = byteCount
      try check(EVP_PKEY_derive(context, output.baseAddress, &count))
    }
  }
}
