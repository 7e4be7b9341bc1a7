// A folder that one process at a time works in.

import Foundation

/// Holds a folder until it is released or the process ends, however it ends (flock).
///
/// The lock is this process's alone: descriptors are closed in children.
final class FolderLock: Sendable {
  private let descriptor: Int32

  /// - Throws: `DevelopmentServerError.folder` naming the process that has it.
  init(_ folder: URL) throws {
    let path = folder.appendingPathComponent("lock").path
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw DevelopmentServerError.folder(
        path: folder.path, reason: "\(path): \(String(cString: strerror(errno)))")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let owner = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      close(descriptor)
      throw DevelopmentServerError.folder(
        path: folder.path,
        reason:
          "a server of process \(owner.isEmpty ? "unknown" : owner) runs there; stop that one, or choose another folder"
      )
    }
    let text = "\(getpid())"
    ftruncate(descriptor, 0)
    _ = text.withCString { pwrite(descriptor, $0, strlen($0), 0) }
  }

  /// Lets others have the folder.
  func release() { flock(descriptor, LOCK_UN) }

  deinit { close(descriptor) }
}
