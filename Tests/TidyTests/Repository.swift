// The project's files as text, and what Package.swift says of its modules.

import Foundation
import TestSupport

enum Repository {
  static let root = Paths.root

  static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  /// The Swift files below a folder, by their path.
  static func swiftFiles(_ folder: String) throws -> [String: String] {
    let below = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
    var files: [String: String] = [:]
    for case let path as String in below ?? .init() where path.hasSuffix(".swift") {
      files["\(folder)/\(path)"] = try text("\(folder)/\(path)")
    }
    return files
  }

  /// Everything that is built, without comments.
  static func code(_ folders: String...) throws -> [String: String] {
    try folders.reduce(into: [:]) { $0.merge(try swiftFiles($1)) { first, _ in first } }
      .mapValues { $0.replacing(/\/\/[^\n]*/, with: "") }
  }
}

/// A target of Package.swift.
struct Module {
  let name: String
  let kind: String
  let folder: String
  let dependencies: [String]

  /// In the order of Package.swift.
  static func all() throws -> [Module] {
    let package = try Repository.text("Package.swift")
    let starts = package.matches(
      of: /\.(target|executableTarget|testTarget|systemLibrary)\(\s*name: "([^"]+)"/)
    return starts.enumerated().map { number, start in
      let end =
        number + 1 < starts.count ? starts[number + 1].range.lowerBound : package.endIndex
      let rest = package[start.range.upperBound..<end]
      let kind = String(start.1)
      let name = String(start.2)
      let list = rest.firstMatch(of: /dependencies: \[([^\]]*)\]/)?.1 ?? ""
      let path = rest.firstMatch(of: /path: "([^"]+)"/)?.1
      return Module(
        name: name, kind: kind,
        folder: path.map(String.init) ?? "\(kind == "testTarget" ? "Tests" : "Sources")/\(name)",
        dependencies: list.matches(of: /"([^"]+)"/).map { String($0.1) })
    }
  }
}
