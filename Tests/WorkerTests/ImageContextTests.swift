// The files that the image is built from, without Docker: what deploy/Dockerfile copies is there and is sent.

import Foundation
import Testing

/// `.dockerignore`: the last pattern that matches a path, or a folder above it, decides.
private struct IgnoreList {
  private let rules: [(pattern: [String], isKept: Bool)]

  init(_ text: String) {
    rules = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
      .filter { !$0.isEmpty && !$0.hasPrefix("#") }
      .map { line in
        let isKept = line.hasPrefix("!")
        return (Self.parts(isKept ? String(line.dropFirst()) : line), isKept)
      }
  }

  private static func parts(_ path: String) -> [String] {
    path.split(separator: "/").map(String.init).filter { $0 != "." }
  }

  func ignores(_ path: String) -> Bool {
    let parts = Self.parts(path)
    var isIgnored = false
    for rule in rules {
      let isMatched = (1...parts.count).contains {
        Self.matches(rule.pattern[...], parts.prefix($0))
      }
      if isMatched { isIgnored = !rule.isKept }
    }
    return isIgnored
  }

  private static func matches(_ pattern: ArraySlice<String>, _ parts: ArraySlice<String>) -> Bool {
    guard let first = pattern.first else { return parts.isEmpty }
    if first == "**" {
      return (0...parts.count).contains { matches(pattern.dropFirst(), parts.dropFirst($0)) }
    }
    guard let part = parts.first, fnmatch(first, part, FNM_NOESCAPE) == 0 else { return false }
    return matches(pattern.dropFirst(), parts.dropFirst())
  }
}

@Suite("The image's files") struct ImageContextTests {
  /// What the first stage copies from the repository.
  private static func sources() throws -> [String] {
    let text = try Repository.lines("deploy/Dockerfile").joined(separator: "\n")
      .replacingOccurrences(of: "\\\n", with: " ")
    return text.split(separator: "\n").flatMap { line -> [String] in
      let words = line.split(separator: " ").map(String.init)
      guard ["COPY", "ADD"].contains(words.first), !line.contains("--from=") else { return [] }
      return words.dropFirst().filter { !$0.hasPrefix("--") }.dropLast()
    }
  }

  /// The files at or below a path, as git has them: what a build makes there is nobody's business.
  private static func files(_ path: String) -> [String] {
    let folder = Repository.root.appendingPathComponent(path)
    guard let all = FileManager.default.enumerator(atPath: folder.path) else { return [path] }
    let below = all.compactMap { ($0 as? String).map { "\(path)/\($0)" } }
    return below.isEmpty ? [path] : below
  }

  @Test("the Dockerfile copies nothing that is missing or left out of the build's context")
  func copied() throws {
    let ignored = IgnoreList(try Repository.lines(".dockerignore").joined(separator: "\n"))
    let sources = try Self.sources()
    #expect(sources.count >= 5)
    for source in sources {
      let path = Repository.root.appendingPathComponent(source).path
      #expect(FileManager.default.fileExists(atPath: path), "\(source)")
      for file in Self.files(source) { #expect(!ignored.ignores(file), "\(file)") }
    }
    // And no more than that is sent.
    for file in [".git/HEAD", ".oppu/models/x.gguf", "docs/events.md", ".build/release/x"] {
      #expect(ignored.ignores(file), "\(file)")
    }
  }

  @Test("the sources of every target of the package are copied")
  func targets() throws {
    let sources = try Self.sources()
    for line in try Repository.lines("Package.swift") where line.contains("path: \"") {
      let path = try #require(line.firstMatch(of: /path: "([^"]+)"/)?.1)
      #expect(sources.contains { path == $0 || path.hasPrefix("\($0)/") }, "\(path)")
    }
    #expect(sources.contains("Sources") && sources.contains("Tests"))
  }

  @Test("patterns decide as Docker has them: the last that matches the path or a folder above it")
  func patterns() {
    let ignored = IgnoreList("*\n# a note\n!Sources\n!scripts/setup\nSources/**/*.tmp\n")
    #expect(!ignored.ignores("Sources/A/b.swift") && !ignored.ignores("scripts/setup"))
    #expect(ignored.ignores("scripts/demo") && ignored.ignores("Benchmarks"))
    #expect(ignored.ignores("Sources/A/b.tmp") && ignored.ignores("Sources/b.tmp"))
  }

  @Test("docker-compose.yml runs versions of Kafka and PostgreSQL that scripts/compatibility tries")
  func composedVersions() throws {
    let lanes = try Repository.lines("scripts/compatibility").joined(separator: "\n")
    let compose = try Repository.lines("docker-compose.yml").joined(separator: "\n")
    let images = compose.matches(of: /image: (?:apache\/)?(kafka|postgres):([0-9.]+)/)
    #expect(images.count == 2)
    for image in images { #expect(lanes.contains("|\(image.1) \(image.2)|"), "\(image.0)") }
  }
}
