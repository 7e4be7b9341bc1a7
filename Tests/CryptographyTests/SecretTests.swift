// AES-256-GCM against NIST's vectors, keys, random bytes, comparison and hexadecimal text.

import Foundation
import Testing

@testable import Cryptography

@Suite("AES-256-GCM")
struct AESGCMTests {
  /// Key, nonce, message, associated data, ciphertext, tag.
  ///
  /// The first nine from NIST's CAVP, GCMVS, file gcmEncryptExtIV256.rsp (IVlen 96, Taglen 128; one
  /// or two of each of the groups with [PTlen, AADlen] of [0, 0], [0, 128], [128, 0], [408, 160],
  /// [104, 0]); then test cases 13 to 16 of McGrew and Viega, "The Galois/Counter Mode of Operation
  /// (GCM)", which NIST's SP 800-38D is made from.
  static let vectors: [[String]] = [
    [
      "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
      "516c33929df5a3284ff463d7", "", "", "", "bdc1ac884d332457a1d2664f168c76f0",
    ],
    [
      "5fe0861cdc2690ce69b3658c7f26f8458eec1c9243c5ba0845305d897e96ca0f",
      "770ac1a5a3d476d5d96944a1", "", "", "", "196d691e1047093ca4b3d2ef4baba216",
    ],
    [
      "78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223",
      "d79cf22d504cc793c3fb6c8a", "", "b96baa8c1c75a671bfb2d08d06be5f36", "",
      "3e5d486aa2e30b22e040b85723a06e76",
    ],
    [
      "4457ff33683cca6ca493878bdc00373893a9763412eef8cddb54f91318e0da88",
      "699d1f29d7b8c55300bb1fd2", "", "6749daeea367d0e9809e2dc2f309e6e3", "",
      "d60c74d2517fde4a74e0cd4709ed43a9",
    ],
    [
      "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
      "0d18e06c7c725ac9e362e1ce", "2db5168e932556f8089a0622981d017d", "",
      "fa4362189661d163fcd6a56d8bf0405a", "d636ac1bbedd5cc3ee727dc2ab4a9489",
    ],
    [
      "460fc864972261c2560e1eb88761ff1c992b982497bd2ac36c04071cbb8e5d99",
      "8a4a16b9e210eb68bcb6f58d", "99e4e926ffe927f691893fb79a96b067", "",
      "133fc15751621b5f325c7ff71ce08324", "ec4e87e0cf74a13618d0b68636ba9fa7",
    ],
    [
      "24501ad384e473963d476edcfe08205237acfd49b5b8f33857f8114e863fec7f",
      "9ff18563b978ec281b3f2794",
      "27f348f9cdc0c5bd5e66b1ccb63ad920ff2219d14e8d631b3872265cf117ee86757accb1"
        + "58bd9abb3868fdc0d0b074b5f01b2c", "adb5ec720ccf9898500028bf34afccbcaca126ef",
      "eb7cb754c824e8d96f7c6d9b76c7d26fb874ffbf1d65c6f64a698d839b0b06145dae8205"
        + "7ad55994cf59ad7f67c0fa5e85fab8", "bc95c532fecc594c36d1550286a7a3f0",
    ],
    [
      "fb43f5ab4a1738a30c1e053d484a94254125d55dccee1ad67c368bc1a985d235",
      "9fbb5f8252db0bca21f1c230",
      "34b797bb82250e23c5e796db2c37e488b3b99d1b981cea5e5b0c61a0b39adb6bd6ef1f50"
        + "722e2e4f81115cfcf53f842e2a6c08", "98f8ae1735c39f732e2cbee1156dabeb854ec7a2",
      "871cd53d95a8b806bd4821e6c4456204d27fd704ba3d07ce25872dc604ea5c5ea1332218"
        + "6b7489db4fa060c1fd4159692612c8", "07b48e4a32fac47e115d7ac7445d8330",
    ],
    [
      "82c4f12eeec3b2d3d157b0f992d292b237478d2cecc1d5f161389b97f999057a",
      "7b40b20f5f397177990ef2d1", "982a296ee1cd7086afad976945", "",
      "ec8e05a0471d6b43a59ca5335f", "113ddeafc62373cac2f5951bb9165249",
    ],
    [
      String(repeating: "0", count: 64), String(repeating: "0", count: 24), "", "", "",
      "530f8afbc74536b9a963b4f1c4cb738b",
    ],
    [
      String(repeating: "0", count: 64), String(repeating: "0", count: 24),
      String(repeating: "0", count: 32), "", "cea7403d4d606b6e074ec5d3baf39d18",
      "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    [
      "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
      "cafebabefacedbaddecaf888",
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255", "",
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
      "b094dac5d93471bdec1a502270e3cc6c",
    ],
    [
      "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
      "cafebabefacedbaddecaf888",
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
      "feedfacedeadbeeffeedfacedeadbeefabaddad2",
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
      "76fc6ece0f4e1768cddf8853bb2d551b",
    ],
  ]

  @Test("seals and opens NIST's vectors as they say", arguments: vectors)
  func vector(_ texts: [String]) throws {
    let parts = try texts.map { try [UInt8](hexadecimal: $0) }
    let key = SymmetricKey(data: parts[0])
    let box = try AESGCM.seal(parts[2], using: key, nonce: parts[1], authenticating: parts[3])
    #expect(Array(box) == parts[1] + parts[4] + parts[5])
    #expect(Array(try AESGCM.open(box, using: key, authenticating: parts[3])) == parts[2])
  }

  @Test("opens nothing of which one bit was flipped, cut off, or put under another key")
  func changes() throws {
    let key = try SymmetricKey.random()
    let data = Array("adapter 7".utf8)
    let box = try AESGCM.seal(Data("weights".utf8), using: key, authenticating: data)
    for bit in 0..<box.count * 8 {
      var changed = box
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: CryptographyError.authenticationFailed) {
        try AESGCM.open(changed, using: key, authenticating: data)
      }
    }
    for bit in 0..<data.count * 8 {
      var changed = data
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: CryptographyError.authenticationFailed) {
        try AESGCM.open(box, using: key, authenticating: changed)
      }
    }
    #expect(throws: CryptographyError.authenticationFailed) { try AESGCM.open(box, using: key) }
    #expect(throws: CryptographyError.authenticationFailed) {
      try AESGCM.open(box, using: .random(), authenticating: data)
    }
    for count in 0..<box.count {
      #expect(throws: CryptographyError.self) {
        try AESGCM.open(box.prefix(count), using: key, authenticating: data)
      }
    }
  }

  @Test("opens a box that is a slice of other data, and random boxes of many sizes")
  func sizes() throws {
    let key = try SymmetricKey.random()
    for count in [0, 1, 15, 16, 17, 4_096, 1 << 20] {
      let message = Data(try randomBytes(count))
      let box = try AESGCM.seal(message, using: key)
      let around = Data([1, 2, 3]) + box + Data([4])
      #expect(try AESGCM.open(around.dropFirst(3).dropLast(), using: key) == message)
      #expect(try AESGCM.seal(message, using: key) != box)
    }
  }

  @Test("refuses keys and nonces of other lengths")
  func lengths() throws {
    for count in [0, 16, 24, 31, 33] {
      let key = SymmetricKey(data: [UInt8](repeating: 1, count: count))
      #expect(throws: CryptographyError.self) { try AESGCM.seal(Data(), using: key) }
      #expect(throws: CryptographyError.self) { try AESGCM.open(Data(count: 28), using: key) }
    }
    for count in [0, 11, 13, 16] {
      #expect(throws: CryptographyError.self) {
        try AESGCM.seal(
          Data(), using: .random(), nonce: [UInt8](repeating: 1, count: count))
      }
    }
  }
}

@Suite("Keys and bytes")
struct BytesTests {
  @Test("a key shows nothing of its bytes and is equal to another with the same")
  func keys() throws {
    let key = SymmetricKey(data: Array("secretsecret".utf8))
    var dumped = ""
    dump(key, to: &dumped)
    for text in ["\(key)", String(reflecting: key), dumped] {
      #expect(text.contains("key of 12 bytes"))
      #expect(!text.contains("115") && !text.contains("secret,") && !text.contains("73656372"))
    }
    #expect(key == SymmetricKey(data: Data("secretsecret".utf8)))
    #expect(key != SymmetricKey(data: Data("secretsecreT".utf8)))
    #expect(try SymmetricKey.random() != SymmetricKey.random())
  }

  @Test("comparison in constant time says what == says")
  func comparison() {
    #expect(equalInConstantTime([UInt8](), Data()))
    #expect(equalInConstantTime([1, 2, 3] as [UInt8], Data([1, 2, 3])))
    #expect(!equalInConstantTime([1, 2, 3] as [UInt8], [1, 2] as [UInt8]))
    for place in 0..<64 {
      let one = [UInt8](repeating: 7, count: 64)
      var other = one
      other[place] ^= 0x80
      #expect(!equalInConstantTime(one, other))
    }
  }

  @Test("random bytes do not come twice and have the length asked for")
  func random() throws {
    let drawn = try (0..<1_000).map { _ in try randomBytes(16) }
    #expect(Set(drawn).count == 1_000)
    #expect(Set(drawn.joined()).count == 256)
    #expect(try randomBytes(0).isEmpty)
    #expect(throws: CryptographyError.self) { try randomBytes(-1) }
  }

  @Test("hexadecimal text is written in lower case and read in both")
  func hexadecimal() throws {
    let all = Array(0...255 as ClosedRange<UInt8>)
    #expect(all.hexadecimal.hasPrefix("000102") && all.hexadecimal.hasSuffix("fdfeff"))
    #expect(try [UInt8](hexadecimal: all.hexadecimal) == all)
    #expect(try [UInt8](hexadecimal: all.hexadecimal.uppercased()) == all)
    #expect(try [UInt8](hexadecimal: "").isEmpty && [UInt8]().hexadecimal.isEmpty)
    let broken = [
      "0", "abc", "0g", "g0", " 00", "00 ", "0 0", "+0", "-1", "0x", "00\n", "\0\0", "٠٠", "ａａ",
      "é", "/0", ":0", "@0", "`0",
    ]
    for text in broken {
      #expect(throws: CryptographyError.self) { try [UInt8](hexadecimal: text) }
    }
  }
}
