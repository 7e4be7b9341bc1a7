// A file's bytes in memory without reading them: mmap.

import Foundation

/// A regular file mapped read-only for as long as the object lives. Its size is that at the opening;
/// a file that somebody cuts short afterwards ends the process with SIGBUS when it is read, as with
/// every mapped file: replace model files by renaming, do not overwrite them.
///
/// Unchecked: the mapping is never written, nor is memory that ``init(name:bytes:owner:)`` is given.
final class MappedFile: @unchecked Sendable {
  let path: String
  let bytes: UnsafeRawBufferPointer
  /// What keeps the bytes alive where they are not a mapping of this object.
  private let owner: AnyObject?

  /// Bytes that are in memory already, under a name for errors.
  init(name: String, bytes: UnsafeRawBufferPointer, owner: AnyObject) {
    path = name
    self.bytes = bytes
    self.owner = owner
  }

  /// Throws ``GGUFError`` with what the system said.
  init(path: String) throws(GGUFError) {
    func failure() -> GGUFError {
      GGUFError(path: path, problem: .cannotOpen(String(cString: strerror(errno))))
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure() }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw GGUFError(path: path, problem: .cannotOpen("it is not a regular file"))
    }
    self.path = path
    owner = nil
    let size = Int(status.st_size)
    if size == 0 {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
      address != MAP_FAILED
    else { throw failure() }
    bytes = UnsafeRawBufferPointer(start: address, count: size)
  }

  /// Gives the pages that were read back to the system; what is read again comes from its cache.
  func releasePages() {
    if owner == nil, let base = bytes.baseAddress {
      madvise(UnsafeMutableRawPointer(mutating: base), bytes.count, Int32(MADV_DONTNEED))
    }
  }

  deinit {
    if owner == nil, let base = bytes.baseAddress {
      munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
    }
  }
}
