// What options and arguments can hold, and how words become values.

/// A value that one word of a command line gives.
///
/// Enumerations with raw values need only say that they conform; with `CaseIterable` too, help,
/// completion and error messages name their cases.
public protocol ExpressibleByArgument: ArgumentValue where ArgumentElement == Self {
  /// The value that a word gives; nil where it gives none.
  init?(argument: String)

  /// The word that gives this value, as help shows defaults.
  var defaultValueDescription: String { get }

  /// All words that can be given, where they are few; otherwise empty.
  static var allValueStrings: [String] { get }
}

/// What the property of an option or argument can be: one value, an optional one, or a list.
public protocol ArgumentValue: SendableMetatype {
  /// What one word gives.
  associatedtype ArgumentElement: ExpressibleByArgument

  /// How many words are wanted.
  static var arity: ArgumentArity { get }

  /// The property's value of what was given; nil where nothing was and something must be.
  static func gathered(_ elements: [ArgumentElement]) -> Self?

  /// What would have to be given for a value.
  static func elements(of value: Self) -> [ArgumentElement]
}

/// How many values an argument takes.
public enum ArgumentArity: Sendable {
  case one
  case optional
  case list
}

extension ExpressibleByArgument {
  public var defaultValueDescription: String { "\(self)" }
  public static var allValueStrings: [String] { [] }
  public static var arity: ArgumentArity { .one }
  public static func gathered(_ elements: [Self]) -> Self? { elements.last }
  public static func elements(of value: Self) -> [Self] { [value] }
}

extension ExpressibleByArgument where Self: CaseIterable {
  public static var allValueStrings: [String] { allCases.map(\.defaultValueDescription) }
}

extension ExpressibleByArgument where Self: RawRepresentable, RawValue: ExpressibleByArgument {
  public init?(argument: String) {
    guard let raw = RawValue(argument: argument) else { return nil }
    self.init(rawValue: raw)
  }

  public var defaultValueDescription: String { rawValue.defaultValueDescription }
}

extension ExpressibleByArgument where Self: LosslessStringConvertible {
  // Disfavoured, so that `Int.init` stays what it is everywhere else.
  @_disfavoredOverload public init?(argument: String) { self.init(argument) }
}

extension Optional: ArgumentValue where Wrapped: ExpressibleByArgument {
  public static var arity: ArgumentArity { .optional }
  public static func gathered(_ elements: [Wrapped]) -> Self? { .some(elements.last) }
  public static func elements(of value: Self) -> [Wrapped] { value.map { [$0] } ?? [] }
}

extension Array: ArgumentValue where Element: ExpressibleByArgument {
  public static var arity: ArgumentArity { .list }
  public static func gathered(_ elements: [Element]) -> Self? { elements.isEmpty ? nil : elements }
  public static func elements(of value: Self) -> [Element] { value }
}

extension String: ExpressibleByArgument {}
extension Bool: ExpressibleByArgument {
  public static var allValueStrings: [String] { ["true", "false"] }
}
extension Double: ExpressibleByArgument {}
extension Float: ExpressibleByArgument {}
extension Int: ExpressibleByArgument {}
extension Int8: ExpressibleByArgument {}
extension Int16: ExpressibleByArgument {}
extension Int32: ExpressibleByArgument {}
extension Int64: ExpressibleByArgument {}
extension UInt: ExpressibleByArgument {}
extension UInt8: ExpressibleByArgument {}
extension UInt16: ExpressibleByArgument {}
extension UInt32: ExpressibleByArgument {}
extension UInt64: ExpressibleByArgument {}
