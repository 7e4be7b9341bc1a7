// The real program, run as people run it.

import Foundation
import Testing

/// One run of oppu-worker to its end.
struct Program {
  let status: Int32
  let output: String
  let errors: String

  static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// Built beside these tests; `OPPU_TEST_PROGRAM` names another one.
  private static let path: String = {
    if let other = ProcessInfo.processInfo.environment["OPPU_TEST_PROGRAM"] { return other }
    let beside = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: "oppu-worker").path
    return FileManager.default.isExecutableFile(atPath: beside)
      ? beside : root.appending(path: ".build/release/oppu-worker").path
  }()

  init(_ arguments: [String]) throws {
    let folder = try TemporaryFolder()
    let (out, err) = (folder.url.appending(path: "out"), folder.url.appending(path: "err"))
    for file in [out, err] { try Data().write(to: file) }
    let process = Process()
    process.executableURL = URL(filePath: Self.path)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try FileHandle(forWritingTo: out)
    process.standardError = try FileHandle(forWritingTo: err)
    try process.run()
    process.waitUntilExit()
    status = process.terminationStatus
    output = String(decoding: try Data(contentsOf: out), as: UTF8.self)
    errors = String(decoding: try Data(contentsOf: err), as: UTF8.self)
  }

  /// What the program printed as one JSON object.
  func object() throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
  }

  /// Whether what it said is for people: a sentence, no value of Swift's or Foundation's.
  var speaksPlainly: Bool {
    ![
      "NSCocoaErrorDomain", "Error Domain", "CocoaError", "UserInfo", "The operation could",
      "Settings(",
    ]
    .contains { (output + errors).contains($0) }
  }
}

/// A folder of a test's own, removed with it.
final class TemporaryFolder {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appending(path: "oppu-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  var path: String { url.path }

  func file(_ name: String, _ text: String) throws -> String {
    let file = url.appending(path: name)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: file)
    return file.path
  }
}
