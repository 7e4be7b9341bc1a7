// One stretch of memory for many matrices.

import Foundation

/// Memory that is read from end to end over and over, like a model's weights: one stretch, so that the
/// system can give it large pages. With 4 KiB pages the processor spends a noticeable part of a
/// product on finding out where they are. Used by one thread at a time while it is given out.
///
/// Unchecked: ``take(_:)`` is called by the one who made it, before any other thread knows of it.
public final class CommonMemory: @unchecked Sendable {
  private static let largePage = 1 << 21

  private let start: UnsafeMutableRawPointer
  private let byteCount: Int
  private var taken = 0

  /// Room for `byteCount` bytes; pages that are never written take no memory.
  public init(byteCount: Int) {
    self.byteCount = byteCount
    start = .allocate(byteCount: max(byteCount, 1), alignment: Self.largePage)
    #if os(Linux)
      // Whole pages only, so that no memory is taken for nothing. A refusal changes nothing else.
      _ = madvise(start, byteCount / Self.largePage * Self.largePage, Int32(MADV_HUGEPAGE))
    #endif
  }

  deinit { start.deallocate() }

  /// What ``take(_:)`` uses up for so many bytes.
  static func room(_ byteCount: Int) -> Int { (byteCount + 63) / 64 * 64 }

  /// The next bytes, at a 64-byte boundary; nil where not so many are left.
  func take(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    let room = Self.room(byteCount)
    guard taken + room <= self.byteCount else { return nil }
    defer { taken += room }
    return start + taken
  }
}
