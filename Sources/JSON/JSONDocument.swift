// A text with its index, for files whose parts are read in any order.

/// A checked text that is kept for as long as it is asked.
public final class JSONDocument {
  private let nodes: UnsafeMutableBufferPointer<JSONNode>
  private let text: UnsafeRawBufferPointer
  private let owner: AnyObject

  /// - Parameters:
  ///   - text: stays as it is for as long as `owner` lives.
  ///   - owner: kept until the document goes.
  /// - Throws: ``JSONReadingError``.
  public init(_ text: UnsafeRawBufferPointer, owner: AnyObject, rules: JSONRules) throws {
    var reader = JSONReader(rules)
    let index = try reader.index(text)
    nodes = .allocate(capacity: index.count)
    _ = nodes.initialize(from: index)
    self.text = text
    self.owner = owner
  }

  deinit { nodes.deallocate() }

  /// A place in the text that stays valid.
  public struct Place: Sendable, Hashable {
    let index: Int
    /// The text's only value.
    public static let root = Place(index: 0)
  }

  /// Lends the value of a place to `body`, which must not keep it.
  public func read<Result, Failure: Error>(
    _ place: Place, _ body: (JSONView) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(self) {} }
    guard let first = nodes.baseAddress, let base = text.bindMemory(to: UInt8.self).baseAddress
    else { preconditionFailure("a text without a value is refused before") }
    return try body(JSONView(text: base, nodes: UnsafePointer(first), index: place.index))
  }
}

extension JSONView {
  /// Where the value stands in its document.
  public var place: JSONDocument.Place { JSONDocument.Place(index: index) }
}
