// Model files with something changed, in large numbers: refused or read, never a crash, never a byte
// read beyond the end, memory in proportion to the input.
//
// OPPU_FUZZ_INPUTS says how many inputs each reader gets, OPPU_FUZZ_SEED where they begin.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

/// Memory whose last byte is followed by a page that nobody may touch.
private final class GuardedMemory {
  private let base: UnsafeMutableRawPointer
  private let room: Int
  private let page = Int(sysconf(Int32(_SC_PAGESIZE)))

  init(room: Int) throws {
    self.room = (room + page - 1) / page * page
    let mapped = mmap(
      nil, self.room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    base = try #require(mapped != MAP_FAILED ? mapped : nil)
    #expect(mprotect(base + self.room, page, PROT_NONE) == 0)
  }

  deinit { munmap(base, room + page) }

  /// The bytes, so placed that they end where the forbidden page begins.
  func place(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
    let start = base + (room - bytes.count)
    start.copyMemory(from: bytes, byteCount: bytes.count)
    return UnsafeRawBufferPointer(start: start, count: bytes.count)
  }
}

/// Changes bytes: single ones, whole numbers, stretches, the length.
private struct Mutator {
  var generator: SplitMix64

  private mutating func below(_ bound: Int) -> Int {
    Int(generator.next() % UInt64(max(bound, 1)))
  }

  private static let numbers: [UInt64] = [
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 24,
    1 << 40, UInt64(Int64.max), 1 << 63, .max, .max - 31,
  ]
  private static let words = [
    "{", "}", "[", "]", "\"", ":", ",", "\\u", "\\ud800", "null", "true", "-1", "1e999", "0.5",
    "9223372036854775807", "18446744073709551616", "[[[[[[[[", "{\"a\":", "\u{0}", "é", "▁",
  ].map { Array($0.utf8) }

  /// - Parameter head: most changes fall into so many bytes at the beginning.
  mutating func change(_ input: [UInt8], head: Int, isText: Bool) -> [UInt8] {
    var bytes = input
    for _ in 0...below(4) {
      guard !bytes.isEmpty else { return bytes }
      let reach = below(10) == 0 ? bytes.count : min(head, bytes.count)
      let place = below(reach)
      switch below(isText ? 8 : 7) {
      case 0: bytes[place] ^= 1 << UInt8(below(8))
      case 1: bytes[place] = UInt8(truncatingIfNeeded: generator.next())
      case 2, 3:
        let size = 1 << below(4)
        let number = Self.numbers[below(Self.numbers.count)]
        for index in 0..<size where place + index < bytes.count {
          bytes[place + index] = UInt8(truncatingIfNeeded: number >> UInt64(8 * index))
        }
      case 4: bytes.removeSubrange(place..<min(place + 1 + below(16), bytes.count))
      case 5:
        let source = below(reach)
        bytes.insert(
          contentsOf: Array(bytes[source..<min(source + 1 + below(32), bytes.count)]), at: place)
      case 6: if below(4) == 0 { bytes.removeLast(bytes.count - place) }
      default: bytes.insert(contentsOf: Self.words[below(Self.words.count)], at: place)
      }
    }
    return bytes
  }
}

@Suite("Fuzzing", .serialized)
struct FuzzTests {
  /// What reading may take: this many times the input, and some room for the process itself.
  private static let factor = 128
  private static let room = 64 << 20

  private static func setting(_ name: String, _ otherwise: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap(Int.init) ?? otherwise
  }

  /// The most address space that the process has had, in bytes; nil where the system does not say.
  private func peak() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmPeak:") }),
      let kilobytes = Int(line.split(separator: " ").dropFirst().first ?? "")
    else { return nil }
    return kilobytes << 10
  }

  /// Feeds changed inputs to a reader; the reader says whether it took the input.
  private func fuzz(
    _ what: String, _ inputs: [(bytes: [UInt8], head: Int)], isText: Bool = false,
    read: (UnsafeRawBufferPointer, AnyObject) throws -> Void
  ) throws {
    let count = Self.setting("OPPU_FUZZ_INPUTS", 3000)
    let seed = UInt64(Self.setting("OPPU_FUZZ_SEED", 20_261_123))
    var mutator = Mutator(generator: SplitMix64(seed: seed))
    let largest = inputs.map(\.bytes.count).max() ?? 0
    // A thread's first allocation reserves 128 MiB of address space: let all have theirs before.
    ThreadPool.shared.parallel(64 * ThreadPool.shared.width) { _ in
      let end = ContinuousClock.now + .milliseconds(1)
      repeat { _ = FloatBuffer(zeros: 16) } while .now < end
    }
    let memory = try GuardedMemory(room: 2 * largest + 4096)
    for input in inputs { try read(memory.place(input.bytes), memory) }
    let before = peak()
    var taken = 0
    let clock = ContinuousClock()
    let time = clock.measure {
      for index in 0..<count {
        let input = inputs[index % inputs.count]
        let changed = mutator.change(input.bytes, head: input.head, isText: isText)
        do {
          try read(memory.place(changed), memory)
          taken += 1
        } catch {
          if "\(error)".isEmpty { Issue.record("an error without a word, seed \(seed)") }
        }
      }
    }
    let growth = before.flatMap { start in peak().map { $0 - start } }
    if let growth {
      #expect(growth <= Self.factor * largest + Self.room, "\(what), seed \(seed)")
    }
    #expect(taken < count)
    print(
      "\(what): \(count) inputs, \(count - taken) refused, \(taken) read, "
        + "address space +\((growth ?? 0) >> 10) KiB, \(time), seed \(seed)")
  }

  private func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try TestModel.fixture("models/\(name)"))
  }

  @Test("GGUF files")
  func gguf() throws {
    let inputs = try ["smollm", "qwen3", "mistral"].map { name -> (bytes: [UInt8], head: Int) in
      let bytes = try bytes(name + ".gguf")
      let header = try GGUFFile(path: ModelFixtures.path(name + ".gguf")).tensors.map(\.offset)
        .min()
      return (bytes, header ?? bytes.count)
    }
    var loaded = 0
    try fuzz("GGUF", inputs) { bytes, owner in
      let model = try LlamaModel(
        GGUFFile(MappedFile(name: "fuzz.gguf", bytes: bytes, owner: owner)))
      loaded += 1
      // What loads also works, whatever its numbers are.
      _ = model.tokenizer.decode(model.tokenizer.encode("It's  12 café\n<|end|> ▁x"))
      if loaded % 16 == 1 {
        _ = try? model.forward([Chunk(tokens: [1, 2], cache: KVCache(for: model))])
      }
    }
  }

  @Test("safetensors files")
  func safetensors() throws {
    let inputs = try ["smollm/model.safetensors", "llama2/model-00002-of-00003.safetensors"].map {
      name -> (bytes: [UInt8], head: Int) in
      let bytes = try bytes(name)
      return (
        bytes, bytes.prefix(8).enumerated().reduce(8) { $0 + Int($1.element) << (8 * $1.offset) }
      )
    }
    try fuzz("safetensors", inputs) { bytes, _ in
      guard let start = UnsafeMutableRawPointer(mutating: bytes.baseAddress) else { return }
      let file = try SafetensorsFile(
        data: Data(bytesNoCopy: start, count: bytes.count, deallocator: .none))
      for name in file.tensors.keys { _ = try? file.floats(name) }
    }
  }

  @Test("tokenizer.json files")
  func tokenizers() throws {
    let inputs = try ["llama2", "llama3", "mistral", "smollm", "qwen2"].map {
      name -> (bytes: [UInt8], head: Int) in
      let bytes = try bytes(name + "/tokenizer.json")
      return (bytes, bytes.count)
    }
    try fuzz("tokenizer.json", inputs, isText: true) { bytes, memory in
      let json = try JSONObject(bytes, of: memory, file: "tokenizer.json")
      let parts = try TokenizerJSON(json, vocabulary: 440)
      let tokenizer = try parts.tokenizer(Tokenizer.Settings(eos: 0, addsBOS: false))
      _ = tokenizer.decode(tokenizer.encode("It's  12 café\n<|end|> ▁x"))
    }
  }

  @Test("config.json files")
  func configurations() throws {
    let inputs = try ModelFixtures.names.map { name -> (bytes: [UInt8], head: Int) in
      let bytes = try bytes(name + "/config.json")
      return (bytes, bytes.count)
    }
    try fuzz("config.json", inputs, isText: true) { bytes, memory in
      _ = try LlamaConfiguration(JSONObject(bytes, of: memory, file: "config.json"))
    }
  }
}
