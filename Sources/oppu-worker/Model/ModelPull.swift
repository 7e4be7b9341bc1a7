// `model pull`: fetch a model by name, address or repository.

import ArgumentParsing
import Foundation
import LanguageModel

struct ModelPull: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pull", abstract: "Download a model.",
    discussion: """
      A broken download goes on where it stopped when the command is run again. The model appears \
      under its name once it is whole and its SHA-256 is right.
      """)

  @Argument(
    help: """
      default (SmolLM2-135M-Instruct, as scripts/setup fetches it), an https:// address of a file, or \
      a Hugging Face repository as owner/name or owner/name@revision.
      """)
  var source: String
  @Option(name: .long, help: "The folder it goes into.") var into = ".oppu/models"
  @Option(name: .long, help: "Expected SHA-256 of a file from an address.") var sha256: String?
  @Option(name: .long, help: "The server of repositories.") var hub = "https://huggingface.co"

  func validate() throws {
    if let sha256, sha256.utf8.count != 64 || !sha256.allSatisfy(\.isHexDigit) {
      throw ValidationError("--sha256 takes 64 hexadecimal digits.")
    }
    if sha256 != nil, !source.contains("://") {
      throw ValidationError("--sha256 goes with an address; the others bring their own.")
    }
    guard URL(string: hub)?.host != nil else { throw ValidationError("--hub takes an address.") }
    if source != "default", ModelDownload(source) == nil {
      throw ValidationError(
        "Cannot pull \"\(source)\": expected default, an http(s) address of a file, or owner/name.")
    }
  }

  func run() async throws {
    try await Failure.explain {
      let folder = URL(fileURLWithPath: into)
      if source == "default" {
        print(try DefaultModel.fetch(into: folder).path)
        return
      }
      guard let download = ModelDownload(source), let hub = URL(string: hub) else { return }
      let line = PullProgress()
      let (path, files) = try await download.fetch(into: folder, sha256: sha256, hub: hub) {
        line.show($0, $1, $2)
      }
      line.end()
      for file in files where !file.isVerified && file.bytes > 1 << 20 {
        Failure.say("no SHA-256 was known to compare with; it is \(file.sha256)")
      }
      print(path.path)
    }
  }
}

/// The bar of the file that is under way.
///
/// Unchecked: every use of the bar is under the lock.
private final class PullProgress: @unchecked Sendable {
  private let lock = NSLock()
  private let line = ProgressLine()

  func show(_ name: String, _ done: Int, _ total: Int?) {
    lock.withLock {
      // In whole KiB, so that the numbers stay short.
      line.show(done >> 10, of: (total ?? 0) >> 10, "KiB  \(name)")
    }
  }

  func end() { lock.withLock { line.end() } }
}
