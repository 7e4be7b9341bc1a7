// Safetensors files, honest and hostile.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

@Suite("Safetensors files")
struct SafetensorsTests {
  /// A file with the given header text and bytes.
  private func file(_ header: String, body: Int = 0, length: UInt64? = nil) -> Data {
    var data = Data()
    withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) {
      data.append(contentsOf: $0)
    }
    data.append(Data(header.utf8))
    data.append(Data(repeating: 0x3F, count: body))
    return data
  }

  private func problem(_ data: Data) -> String {
    do {
      _ = try SafetensorsFile(data: data, name: "x")
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  @Test("what was written is read back")
  func roundTrip() throws {
    let entries = [
      SafetensorsFile.Entry(name: "b \"quoted\"", shape: [2, 3], values: [1, 2, 3, 4, 5, -6.5]),
      SafetensorsFile.Entry(name: "a", shape: [1], values: [.pi]),
      SafetensorsFile.Entry(name: "empty", shape: [0, 4], values: []),
    ]
    let data = try SafetensorsFile.encode(entries, metadata: ["format": "pt"])
    let read = try SafetensorsFile(data: data)
    #expect(read.metadata == ["format": "pt"])
    for entry in entries {
      #expect(try read.floats(entry.name) == entry.values)
      #expect(read.tensors[entry.name]?.shape == entry.shape)
    }
    #expect(throws: SafetensorsError.self) { try read.floats("c") }
  }

  @Test("half precision is widened exactly")
  func halfPrecision() throws {
    var data = file(
      #"{"h":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},"#
        + #""b":{"dtype":"BF16","shape":[2],"data_offsets":[10,14]}}"#)
    for bits: UInt16 in [0x3C00, 0xC500, 0x0001, 0x7C00, 0x8000, 0x3F80, 0xC0A0] {
      withUnsafeBytes(of: bits.littleEndian) { data.append(contentsOf: $0) }
    }
    let read = try SafetensorsFile(data: data)
    #expect(try read.floats("h") == [1, -5, 0x1p-24, .infinity, -0.0])
    #expect(try read.floats("b") == [1, -5])
  }

  @Test(
    "a damaged or hostile header is refused with a reason",
    arguments: [
      (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}}"#, 8, "outside"),
      (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "outside"),
      (#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "need 12"),
      (
        #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#, 8,
        "overflows"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}}"#, 8, "2^63"
      ),
      (#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "whole number"),
      (#"{"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}}"#, 8, "unknown type"),
      (#"{"a":{"dtype":"F32","shape":[2]}}"#, 8, "data_offsets"),
      (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}"#, 8, "unknown key"),
      (
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#
          + #""a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "a second time"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#
          + #""b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#, 6, "overlaps"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#
          + #""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#, 12, "hole"
      ),
      (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 8, "belong to no tensor"),
      (#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, 4, "at most 8"),
      (#"{"__metadata__":{"k":1}}"#, 0, "a string"),
      (#"{"a"#, 0, "an unexpected end at byte 11"),
      (#"[]"#, 0, "an object"),
      (#"{} x"#, 0, "something after the end"),
      (#""#, 0, "an empty text"),
    ])
  func hostile(header: String, body: Int, reason: String) {
    let text = problem(file(header, body: body))
    #expect(text.hasPrefix("x: ") && text.contains(reason), "\(text)")
  }

  @Test("an absurd header length is refused before anything is allocated")
  func absurdLength() {
    #expect(problem(file("{}", length: .max)).contains("exceeds the limit"))
    #expect(problem(file("{}", length: 1 << 20)).contains("exceeds the 2 bytes"))
    #expect(problem(Data([1, 2, 3])).contains("too few"))
  }

  @Test("every truncation of a file is refused")
  func truncation() throws {
    let whole = try SafetensorsFile.encode([
      .init(name: "a", shape: [3], values: [1, 2, 3]), .init(name: "b", shape: [1], values: [4]),
    ])
    for count in 0..<whole.count {
      #expect(throws: SafetensorsError.self) { try SafetensorsFile(data: whole.prefix(count)) }
    }
  }

  @Test("twenty thousand files with random bytes changed are read or refused, never a trap")
  func mutations() throws {
    let seed: UInt64 = 20_260_722
    print("seed \(seed)")
    var generator = SplitMix64(seed: seed)
    let whole = try SafetensorsFile.encode(
      [
        .init(name: "layers.0.a", shape: [2, 2], values: [1, 2, 3, 4]),
        .init(name: "layers.1.\u{1}", shape: [1], values: [4]),
      ], metadata: ["format": "pt"])
    var refused = 0
    for _ in 0..<20_000 {
      var data = whole
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let place = Int.random(in: 0..<data.count, using: &generator)
        data[place] = UInt8.random(in: 0...255, using: &generator)
      }
      if let file = try? SafetensorsFile(data: data) {
        for name in file.tensors.keys { _ = try? file.floats(name) }
      } else {
        refused += 1
      }
    }
    #expect(refused > 5000)
  }
}
