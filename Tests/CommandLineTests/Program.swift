// The real program, run as people run it.

import Foundation
import TestSupport
import Testing

/// One run of oppu-worker to its end.
struct Program {
  let status: Int32
  let output: String
  let errors: String

  init(_ arguments: [String]) throws {
    let folder = try TemporaryFolder()
    let (out, err) = (folder.url.appending(path: "out"), folder.url.appending(path: "err"))
    for file in [out, err] { try Data().write(to: file) }
    let process = Process()
    process.executableURL = URL(filePath: Paths.worker)
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
