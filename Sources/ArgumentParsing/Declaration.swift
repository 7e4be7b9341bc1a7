// What stands in a wrapped property: its declaration until the command line is read, then its value.

enum Declaration<Value> {
  /// What was declared, the default, and how the words given, of which there is one at least, are
  /// read.
  case declared(
    DeclaredArgument, Value?, @Sendable ([GivenValue], DeclaredArgument) throws -> Value?)
  case value(Value)

  init(
    _ kind: DeclaredArgument.Kind, _ name: NameSpecification, _ help: ArgumentHelp?,
    _ completion: CompletionKind?, default initial: Value?
  ) where Value: ArgumentValue {
    typealias Element = Value.ArgumentElement
    let words = initial.map { Value.elements(of: $0).map { $0.defaultValueDescription } } ?? []
    let argument = DeclaredArgument(
      kind: kind, name: name, help: help ?? "", completion: completion, arity: Value.arity,
      choices: kind == .flag ? [] : Element.allValueStrings,
      isNumber: Element.self is any Numeric.Type, isRequired: initial == nil,
      defaultDescription: kind == .flag ? "" : words.joined(separator: ","))
    self = .declared(argument, initial) { given, argument in
      let elements = try given.map { one in
        if let element = Element(argument: one.word) { return element }
        throw UsageError.invalidValue(one, for: argument)
      }
      return Value.gathered(elements)
    }
  }

  /// With a closure for what one word gives.
  init(
    _ name: NameSpecification, _ help: ArgumentHelp?, _ completion: CompletionKind?,
    default initial: Value?, transform: @escaping @Sendable (String) throws -> Value
  ) {
    let words = (initial as? [String])?.joined(separator: ",") ?? initial.map { "\($0)" } ?? ""
    let argument = DeclaredArgument(
      kind: .option, name: name, help: help ?? "", completion: completion, arity: .one,
      choices: [], isNumber: false, isRequired: initial == nil, defaultDescription: words)
    self = .declared(argument, initial) { given, argument in
      try given.map { one in
        do { return try transform(one.word) } catch {
          throw UsageError.invalidValue(one, for: argument, because: error)
        }
      }.last
    }
  }

  /// The property's value; before parsing the default.
  var value: Value {
    switch self {
    case .value(let value), .declared(_, let value?, _): return value
    case .declared: preconditionFailure("A command has its values once it has been parsed.")
    }
  }

  func declared(as key: [String]) -> [DeclaredArgument] {
    guard case .declared(var argument, _, _) = self else { return [] }
    argument.key = key
    return [argument]
  }

  /// - Throws: ``UsageError`` where a word gives no value, or the argument must be given and is not.
  func filled(from reading: Reading, key: [String]) throws -> Self {
    guard case .declared(_, let initial, let read) = self, let argument = declared(as: key).first
    else { return self }
    let given = reading.given[key] ?? []
    guard let value = given.isEmpty ? initial : try read(given, argument) else {
      throw UsageError.missingArgument(argument)
    }
    return .value(value)
  }
}

extension Declaration: Sendable where Value: Sendable {}
