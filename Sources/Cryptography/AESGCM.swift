// AES-256-GCM: what is sealed can be read with the key alone, and no change goes unseen.

import COpenSSL
import Foundation

/// AES-256-GCM (NIST SP 800-38D). A sealed box is the nonce (12 bytes), the ciphertext and the tag
/// (16 bytes), one after the other.
public enum AESGCM {
  private static let nonceCount = 12
  private static let tagCount = 16

  /// Seals a message.
  ///
  /// - Parameter nonce: 12 bytes, never twice under one key; random ones are good for 2³² messages.
  /// - Parameter data: is not in the box but must be the same on opening.
  /// - Throws: `CryptographyError` for another key length than 32, another nonce length, and 2 GiB.
  public static func seal(
    _ message: some ContiguousBytes, using key: SymmetricKey, nonce: [UInt8]? = nil,
    authenticating data: [UInt8] = []
  ) throws -> Data {
    let nonce = try nonce ?? randomBytes(nonceCount)
    var tag = [UInt8](repeating: 0, count: tagCount)
    let sealed = try message.withUnsafeBytes { try run($0, key, nonce, data, &tag, sealing: true) }
    return nonce + sealed + tag
  }

  /// Opens what `seal` made. Nothing comes out of a box that was changed.
  ///
  /// - Throws: `CryptographyError.authenticationFailed` if anything was changed, other cases for
  ///   what cannot be a box or a key.
  public static func open(
    _ box: Data, using key: SymmetricKey, authenticating data: [UInt8] = []
  ) throws -> Data {
    guard box.count >= nonceCount + tagCount else {
      throw CryptographyError.invalidInput("a sealed box of \(box.count) bytes; 28 at least")
    }
    var tag = Array(box.suffix(tagCount))
    return try box.dropFirst(nonceCount).dropLast(tagCount).withUnsafeBytes {
      try run($0, key, Array(box.prefix(nonceCount)), data, &tag, sealing: false)
    }
  }

  /// Both directions: sealing writes the tag, opening checks it.
  private static func run(
    _ input: UnsafeRawBufferPointer, _ key: SymmetricKey, _ nonce: [UInt8], _ data: [UInt8],
    _ tag: inout [UInt8], sealing: Bool
  ) throws -> Data {
    guard key.byteCount == 32, nonce.count == nonceCount,
      let count = Int32(exactly: input.count), let dataCount = Int32(exactly: data.count)
    else {
      throw CryptographyError.invalidInput(
        "AES-256-GCM of \(input.count) bytes with \(data.count) beside them, a key of "
          + "\(key.byteCount) and a nonce of \(nonce.count); expected below 2 GiB, 32 and 12")
    }
    let context = EVP_CIPHER_CTX_new()
    defer { EVP_CIPHER_CTX_free(context) }
    func check(_ result: Int32) throws { try OpenSSL.check(result, "AES-256-GCM") }
    func tagging(_ command: Int32) -> Int32 { EVP_CIPHER_CTX_ctrl(context, command, 16, &tag) }
    try check(
      key.withUnsafeBytes {
        EVP_CipherInit_ex(context, OpenSSL.aes256GCM, nil, $0.baseAddress, nonce, sealing ? 1 : 0)
      })
    if !sealing { try check(tagging(EVP_CTRL_AEAD_SET_TAG)) }
    var (output, written, rest) = (Data(count: input.count), 0 as Int32, 0 as UInt8)
    // To OpenSSL, no output means associated data: an empty message must not come near it.
    if dataCount > 0 { try check(EVP_CipherUpdate(context, nil, &written, data, dataCount)) }
    try output.withUnsafeMutableBytes { [address = input.baseAddress] output in
      if count > 0 {
        try check(EVP_CipherUpdate(context, output.baseAddress, &written, address, count))
      }
      // GCM holds nothing back for the end, but judges there.
      if EVP_CipherFinal_ex(context, &rest, &written) == 1 { return }
      OPENSSL_cleanse(output.baseAddress, output.count)
      let failure = OpenSSL.error("AES-256-GCM")
      throw sealing ? failure : CryptographyError.authenticationFailed
    }
    if sealing { try check(tagging(EVP_CTRL_AEAD_GET_TAG)) }
    return output
  }
}
