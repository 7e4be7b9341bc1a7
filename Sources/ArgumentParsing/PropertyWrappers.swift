// `@Option`, `@Flag`, `@Argument` and `@OptionGroup`: what a command declares, and later holds.

/// An option with a value: `--limit 5`, `--limit=5`, `-l 5`, `-l5`.
///
/// A property without a default must be given, unless it is optional. A list gathers every use of
/// the option; otherwise the last one counts.
@propertyWrapper
public struct Option<Value>: Decodable {
  var state: Declaration<Value>

  public init(from decoder: any Decoder) throws { throw Reading.onlyByParsing }

  /// An option with a default.
  public init(
    wrappedValue: Value, name: NameSpecification = .long, help: ArgumentHelp? = nil,
    completion: CompletionKind? = nil
  ) where Value: ArgumentValue {
    state = .init(.option, name, help, completion, default: wrappedValue)
  }

  /// An option that must be given, or that is optional.
  public init(
    name: NameSpecification = .long, help: ArgumentHelp? = nil, completion: CompletionKind? = nil
  ) where Value: ArgumentValue {
    state = .init(.option, name, help, completion, default: Value.gathered([]))
  }

  /// An option with a default whose word a closure makes into a value; it throws where it cannot.
  public init(
    wrappedValue: Value, name: NameSpecification = .long, help: ArgumentHelp? = nil,
    completion: CompletionKind? = nil, transform: @escaping @Sendable (String) throws -> Value
  ) {
    state = .init(name, help, completion, default: wrappedValue, transform: transform)
  }

  public var wrappedValue: Value {
    get { state.value }
    set { state = .value(newValue) }
  }
}

/// A switch without a value: `--execute`.
@propertyWrapper
public struct Flag: Decodable, Sendable {
  var state: Declaration<Bool>

  public init(from decoder: any Decoder) throws { throw Reading.onlyByParsing }

  /// A flag that is off unless it is given.
  public init(wrappedValue: Bool, name: NameSpecification = .long, help: ArgumentHelp? = nil) {
    state = .init(.flag, name, help, nil, default: wrappedValue)
  }

  public var wrappedValue: Bool {
    get { state.value }
    set { state = .value(newValue) }
  }
}

/// A value that is known by its place among the words that belong to no option.
@propertyWrapper
public struct Argument<Value>: Decodable {
  var state: Declaration<Value>

  public init(from decoder: any Decoder) throws { throw Reading.onlyByParsing }

  /// An argument with a default.
  public init(
    wrappedValue: Value, help: ArgumentHelp? = nil, completion: CompletionKind? = nil
  ) where Value: ArgumentValue {
    state = .init(.positional, [], help, completion, default: wrappedValue)
  }

  /// An argument that must be given, or that is optional.
  public init(help: ArgumentHelp? = nil, completion: CompletionKind? = nil)
  where Value: ArgumentValue {
    state = .init(.positional, [], help, completion, default: Value.gathered([]))
  }

  public var wrappedValue: Value {
    get { state.value }
    set { state = .value(newValue) }
  }
}

/// Options and arguments that several commands have in common.
@propertyWrapper
public struct OptionGroup<Value: ParsableArguments>: Decodable {
  private let title: String
  private var value: Value?

  public init(from decoder: any Decoder) throws { throw Reading.onlyByParsing }

  /// A group; with a title it is a section of its own in help.
  public init(title: String = "") { self.title = title }

  public var wrappedValue: Value {
    get { value ?? Value() }
    set { value = newValue }
  }
}

extension Option: Sendable where Value: Sendable {}
extension Argument: Sendable where Value: Sendable {}
extension OptionGroup: Sendable where Value: Sendable {}

extension Option: ArgumentWrapper {}
extension Flag: ArgumentWrapper {}
extension Argument: ArgumentWrapper {}

extension OptionGroup: DeclaringWrapper {
  func declared(as key: [String]) -> [DeclaredArgument] {
    DeclaredArgument.all(of: Value(), under: key).map { argument in
      var argument = argument
      if !title.isEmpty { argument.section = title }
      return argument
    }
  }

  func filled(from reading: Reading, key: [String]) throws -> Self {
    var filled = self
    let value = try Value(from: ArgumentDecoder(declaring: Value(), reading: reading, key: key))
    reading.check(value.validate)
    filled.value = value
    return filled
  }
}
