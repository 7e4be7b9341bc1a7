// Where models come from: an address, or a repository on the Hugging Face hub.

import Foundation

/// A model that can be fetched over HTTP.
public enum ModelDownload: Sendable, Equatable {
  /// One file.
  case file(URL)
  /// A repository, whose files make a folder. The revision is a branch, a tag or a commit.
  case repository(String, revision: String)

  /// Reads `https://…` or `owner/name`, with `@revision` after it if wanted; nil for anything else.
  public init?(_ text: String) {
    if text.hasPrefix("https://") || text.hasPrefix("http://") {
      guard let url = URL(string: text), url.host != nil, !url.lastPathComponent.isEmpty,
        url.lastPathComponent != "/"
      else { return nil }
      self = .file(url)
      return
    }
    let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    let names = halves[0].split(separator: "/", omittingEmptySubsequences: false)
    func isName(_ name: Substring) -> Bool {
      !name.isEmpty && name.first != "."
        && name.utf8.allSatisfy { byte in
          (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
            || (0x61...0x7A).contains(byte) || "-_.".utf8.contains(byte)
        }
    }
    guard names.count == 2, names.allSatisfy(isName), halves.dropFirst().allSatisfy(isName) else {
      return nil
    }
    self = .repository(String(halves[0]), revision: halves.count > 1 ? String(halves[1]) : "main")
  }

  /// The name that the file or folder gets: the address' last part, or the repository's name.
  public var name: String {
    switch self {
    case .file(let url): url.lastPathComponent
    case .repository(let repository, _): String(repository.split(separator: "/").last ?? "model")
    }
  }

  /// Fetches the model into `folder` and returns the path of its file or folder. `progress` gets the
  /// file's name, its bytes so far and, where known, in all.
  /// - Parameters:
  ///   - sha256: of a single file, in hexadecimal; a repository's weight files bring their own.
  ///   - hub: the server of repositories.
  /// - Throws: ``DownloadError``, and ``ModelFileError`` for an index that makes no sense.
  public func fetch(
    into folder: URL, sha256: String? = nil,
    hub: URL = URL(string: "https://huggingface.co") ?? URL(fileURLWithPath: "/"),
    progress: @escaping @Sendable (String, Int, Int?) -> Void = { _, _, _ in }
  ) async throws -> (path: URL, files: [FileDownload.Outcome]) {
    let target = folder.appendingPathComponent(name)
    switch self {
    case .file(let url):
      let outcome = try await FileDownload(url: url, destination: target, sha256: sha256)
        .run { progress(target.lastPathComponent, $0, $1) }
      return (target, [outcome])
    case .repository(let repository, let revision):
      var outcomes: [FileDownload.Outcome] = []
      func get(_ file: String, isOptional: Bool = false) async throws -> Bool {
        let place = target.appendingPathComponent(file)
        // A folder fetched halfway goes on with the files that it lacks.
        if FileManager.default.fileExists(atPath: place.path) { return true }
        let url = hub.appendingPathComponent("\(repository)/resolve/\(revision)/\(file)")
        do {
          outcomes.append(
            try await FileDownload(url: url, destination: place).run { progress(file, $0, $1) })
          return true
        } catch let error as DownloadError where isOptional && error.status == 404 {
          for ending in ["part", "part.etag"] {
            try? FileManager.default.removeItem(at: place.appendingPathExtension(ending))
          }
          return false
        }
      }
      _ = try await get("config.json")
      _ = try await get("tokenizer.json")
      for file in ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        _ = try await get(file, isOptional: true)
      }
      if try await get(HuggingFaceFolder.indexName, isOptional: true) {
        let index = target.appendingPathComponent(HuggingFaceFolder.indexName).path
        for file in try HuggingFaceFolder.weightFiles(index: index) { _ = try await get(file) }
      } else {
        _ = try await get("model.safetensors")
      }
      return (target, outcomes)
    }
  }
}
