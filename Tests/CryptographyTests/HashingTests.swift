// SHA-256, HMAC and HKDF against published vectors.

import COpenSSL
import Foundation
import RandomNumbers
import Testing

@testable import Cryptography

private func bytes(_ hexadecimal: String) throws -> [UInt8] {
  try [UInt8](hexadecimal: hexadecimal)
}

@Suite("SHA-256")
struct SHA256Tests {
  @Test("hashes NIST's examples for FIPS 180 as they say")
  func examples() {
    // csrc.nist.gov, "Cryptographic Standards and Guidelines: Example Values", SHA256.pdf and
    // SHA2_Additional.pdf; the million a's stand in FIPS 180-2, appendix B.3.
    let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    let examples: [([UInt8], String)] = [
      ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      (Array("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (Array(long.utf8), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
      ([0xBD], "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"),
      (
        [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
      ),
    ]
    for (message, digest) in examples {
      #expect(SHA256.hash(data: message).hexadecimal == digest)
      var hash = SHA256()
      for byte in message { withUnsafeBytes(of: byte) { hash.update(bufferPointer: $0) } }
      #expect(hash.finalize().hexadecimal == digest)
    }
  }

  @Test("gives one digest in whatever pieces the bytes come, for every length to 300")
  func pieces() {
    let seed = UInt64.random(in: 0 ... .max)
    print("SHA-256 in pieces: seed \(seed)")
    var generator = SplitMix64(seed: seed)
    for length in 0...300 {
      let message = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
      var hash = SHA256()
      var rest = message[...]
      while !rest.isEmpty {
        let piece = rest.prefix(Int.random(in: 0...rest.count, using: &generator))
        rest = rest.dropFirst(piece.count)
        if Bool.random(using: &generator) {
          hash.update(data: Data(piece))
        } else {
          piece.withUnsafeBytes { hash.update(bufferPointer: $0) }
        }
      }
      #expect(hash.finalize() == SHA256.hash(data: message))
    }
  }

  @Test("a copy of a running digest goes its own way, and one that is finished goes on")
  func copies() {
    var hash = SHA256()
    hash.update(data: Data("a".utf8))
    var copy = hash
    copy.update(data: Data("x".utf8))
    #expect(hash.finalize() == SHA256.hash(data: Data("a".utf8)))
    hash.update(data: Data("bc".utf8))
    #expect(hash.finalize() == SHA256.hash(data: Data("abc".utf8)))
    #expect(copy.finalize() == SHA256.hash(data: Data("ax".utf8)))
  }

  @Test("many threads hash copies of one running digest at once")
  func threads() async {
    var start = SHA256()
    start.update(data: Data("start".utf8))
    let same = await withTaskGroup(of: Bool.self) { [start] group in
      for number in 0..<200 {
        group.addTask {
          var own = start
          own.update(data: Data("\(number)".utf8))
          return own.finalize() == SHA256.hash(data: Data("start\(number)".utf8))
        }
      }
      return await group.allSatisfy { $0 }
    }
    #expect(same)
  }

  @Test("a digest is a key of sets and a sequence of 32 bytes")
  func digests() {
    let digests = ["a", "b", "a"].map { SHA256.hash(data: Data($0.utf8)) }
    #expect(Set(digests).count == 2)
    #expect(digests[0] == digests[2] && digests[0] != digests[1])
    #expect(Array(digests[0]).count == 32)
    #expect(digests[0].prefix(4).hexadecimal == "ca978112")
  }
}

@Suite("HMAC and HKDF")
struct KeyedHashingTests {
  @Test("authenticates the messages of RFC 4231 as it says")
  func messages() throws {
    // RFC 4231, test cases 1 to 4, 6 and 7 (5 cuts its code to 128 bits).
    let large = SymmetricKey(data: [UInt8](repeating: 0xAA, count: 131))
    let cases: [(SymmetricKey, [UInt8], String)] = [
      (
        SymmetricKey(data: [UInt8](repeating: 0x0B, count: 20)), Array("Hi There".utf8),
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
      ),
      (
        SymmetricKey(data: Data("Jefe".utf8)), Array("what do ya want for nothing?".utf8),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
      ),
      (
        SymmetricKey(data: [UInt8](repeating: 0xAA, count: 20)),
        [UInt8](repeating: 0xDD, count: 50),
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
      ),
      (
        SymmetricKey(data: Array(1...25 as ClosedRange<UInt8>)),
        [UInt8](repeating: 0xCD, count: 50),
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
      ),
      (
        large, Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
      ),
      (
        large,
        Array(
          ("This is a test using a larger than block-size key and a larger than block-size data."
            + " The key needs to be hashed before being used by the HMAC algorithm.").utf8),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
      ),
    ]
    for (key, message, code) in cases {
      let made = try HMACSHA256.authenticationCode(for: message, using: key)
      #expect(made.hexadecimal == code)
      #expect(try HMACSHA256.isValid(bytes(code), for: message, using: key))
    }
  }

  @Test("takes an empty key and an empty message")
  func empty() throws {
    let code = try HMACSHA256.authenticationCode(for: Data(), using: SymmetricKey(data: Data()))
    // Python: hmac.new(b"", b"", "sha256").
    #expect(
      code.hexadecimal == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
  }

  @Test("refuses a code with any one bit flipped, and one that was cut")
  func flips() throws {
    let key = try SymmetricKey.random()
    let message = Data("message".utf8)
    let code = Array(try HMACSHA256.authenticationCode(for: message, using: key))
    for bit in 0..<256 {
      var changed = code
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(try !HMACSHA256.isValid(changed, for: message, using: key))
    }
    #expect(try !HMACSHA256.isValid(code.dropLast(), for: message, using: key))
    #expect(try !HMACSHA256.isValid([UInt8](), for: message, using: key))
  }

  @Test("derives the keys of RFC 5869 as it says")
  func derivation() throws {
    // RFC 5869, appendix A.1 to A.3: the test cases with SHA-256.
    let ones = SymmetricKey(data: [UInt8](repeating: 0x0B, count: 22))
    let first = try HKDFSHA256.deriveKey(
      from: ones, salt: Array(0...0x0C), info: Array(0xF0...0xF9), byteCount: 42)
    #expect(
      first.withUnsafeBytes(\.hexadecimal)
        == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    let second = try HKDFSHA256.deriveKey(
      from: SymmetricKey(data: Array(0...0x4F as ClosedRange<UInt8>)), salt: Array(0x60...0xAF),
      info: Array(0xB0...0xFF), byteCount: 82)
    #expect(
      second.withUnsafeBytes(\.hexadecimal)
        == "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        + "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        + "cc30c58179ec3e87c14c01d5c1f3434f1d87")
    let third = try HKDFSHA256.deriveKey(from: ones, byteCount: 42)
    #expect(
      third.withUnsafeBytes(\.hexadecimal)
        == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
  }

  @Test("refuses lengths that HKDF does not have, with OpenSSL's reason where it is OpenSSL's")
  func lengths() throws {
    let key = try SymmetricKey.random()
    #expect(try HKDFSHA256.deriveKey(from: key, byteCount: 255 * 32).byteCount == 8160)
    for count in [0, -1, .min, 255 * 32 + 1, .max] {
      #expect(throws: CryptographyError.self) {
        try HKDFSHA256.deriveKey(from: key, byteCount: count)
      }
    }
    #expect(throws: CryptographyError.self) {
      try HKDFSHA256.deriveKey(from: SymmetricKey(data: Data()))
    }
    let long = [UInt8](repeating: 1, count: 1_025)
    #expect(throws: CryptographyError.self) { try HKDFSHA256.deriveKey(from: key, info: long) }
    #expect(throws: CryptographyError.self) { try HKDFSHA256.deriveKey(from: key, salt: long) }
    #expect(throws: CryptographyError.self) {
      try HKDFSHA256.deriveKey(from: SymmetricKey(data: long))
    }
    #expect(throws: Never.self) {
      try HKDFSHA256.deriveKey(
        from: SymmetricKey(data: long.dropLast()), salt: long.dropLast(), info: long.dropLast())
    }
  }

  @Test("an error has OpenSSL's reason and leaves its queue empty")
  func reason() {
    #expect(EVP_MD_fetch(OpenSSL.context, "no such hash", nil) == nil)
    #expect(
      OpenSSL.error("fetching") == .openSSL(operation: "fetching", reason: "unsupported"))
    #expect(ERR_peek_error() == 0)
    #expect("\(OpenSSL.error("fetching"))" == "fetching: OpenSSL gives no reason")
  }
}
