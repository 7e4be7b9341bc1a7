// Owned, aligned memory for numbers.

/// `count` f32 numbers at a 64-byte boundary, freed with the buffer. Not initialised unless asked.
///
/// Unchecked: the buffer only owns the memory. Whoever shares one between threads has to keep their
/// writes apart, as with any unsafe pointer.
public final class FloatBuffer: @unchecked Sendable {
  /// The number of elements.
  public let count: Int
  /// The first element; valid as long as the buffer lives.
  public let pointer: UnsafeMutablePointer<Float>

  /// Room for `count` numbers, undefined until written.
  public init(uninitialized count: Int) {
    self.count = count
    pointer = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * 4, alignment: 64)
      .bindMemory(to: Float.self, capacity: max(count, 1))
  }

  /// `count` zeros.
  public convenience init(zeros count: Int) {
    self.init(uninitialized: count)
    pointer.initialize(repeating: 0, count: count)
  }

  /// A copy of an array.
  public convenience init(_ values: [Float]) {
    self.init(uninitialized: values.count)
    values.withUnsafeBufferPointer { source in
      guard let base = source.baseAddress else { return }
      pointer.initialize(from: base, count: source.count)
    }
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }

  /// The elements as a buffer pointer.
  public var elements: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: pointer, count: count)
  }

  /// A copy of the elements.
  public var array: [Float] { Array(elements) }

  /// Sets every element.
  public func fill(_ value: Float) { pointer.update(repeating: value, count: count) }
}
