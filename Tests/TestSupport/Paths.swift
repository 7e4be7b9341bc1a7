// Where the repository's files are, and what was built.

import Foundation

public enum Paths {
  /// The repository's root.
  public static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// The default model, which scripts/setup fetches; `OPPU_MODEL` names another.
  public static let model =
    ProcessInfo.processInfo.environment["OPPU_MODEL"]
    ?? root.appending(path: ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf").path

  /// The development broker, which scripts/setup puts there.
  public static let developmentBroker = root.appending(path: ".oppu/bin/noida-db")

  /// The real program, built beside these tests; `OPPU_TEST_PROGRAM` names another.
  public static let worker: String = {
    if let other = ProcessInfo.processInfo.environment["OPPU_TEST_PROGRAM"] { return other }
    let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: "oppu-worker").path
    return FileManager.default.isExecutableFile(atPath: beside)
      ? beside : root.appending(path: ".build/release/oppu-worker").path
  }()
}
