// What the wrappers of properties share: a declaration until the command line is read, then a value.

/// What one property was declared with.
struct Declaration<Value> {
  /// What stands in a property.
  enum State {
    case declared(Declaration)
    case value(Value)
  }

  let kind: DeclaredArgument.Kind
  let name: NameSpecification
  let help: ArgumentHelp
  let completion: CompletionKind?
  let arity: ArgumentArity
  let choices: [String]
  let isNumber: Bool
  let initial: Value?
  let initialDescription: String?
  /// The value of the words given, of which there is one at least.
  let read: @Sendable ([GivenValue], DeclaredArgument) throws -> Value?
}

extension Declaration: Sendable where Value: Sendable {}
extension Declaration.State: Sendable where Value: Sendable {}

extension Declaration where Value == Bool {
  init(flagNamed name: NameSpecification, _ help: ArgumentHelp?, default initial: Bool) {
    self.init(
      kind: .flag, name: name, help: help ?? "", completion: nil, arity: .optional, choices: [],
      isNumber: false, initial: initial, initialDescription: nil, read: { _, _ in true })
  }
}

extension Declaration.State {
  init(
    _ kind: DeclaredArgument.Kind, _ name: NameSpecification, _ help: ArgumentHelp?,
    _ completion: CompletionKind?, default initial: Value?
  ) where Value: ArgumentValue {
    typealias Element = Value.ArgumentElement
    let words = initial.map { Value.elements(of: $0).map(\.defaultValueDescription) } ?? []
    self = .declared(
      Declaration(
        kind: kind, name: name, help: help ?? "", completion: completion, arity: Value.arity,
        choices: Element.allValueStrings, isNumber: Element.self is any Numeric.Type,
        initial: initial, initialDescription: words.joined(separator: ",")
      ) { given, argument in
        Value.gathered(
          try given.map { one in
            guard let element = Element(argument: one.word) else {
              throw UsageError.invalidValue(one, for: argument)
            }
            return element
          })
      })
  }

  init(
    _ kind: DeclaredArgument.Kind, _ name: NameSpecification, _ help: ArgumentHelp?,
    _ completion: CompletionKind?, default initial: Value?,
    transform: @escaping @Sendable (String) throws -> Value
  ) {
    let words = (initial as? [String])?.joined(separator: ",") ?? initial.map { "\($0)" }
    self = .declared(
      Declaration(
        kind: kind, name: name, help: help ?? "", completion: completion, arity: .one,
        choices: [], isNumber: false, initial: initial, initialDescription: words
      ) { given, argument in
        try given.map { one in
          do {
            return try transform(one.word)
          } catch { throw UsageError.invalidValue(one, for: argument, because: error) }
        }.last
      })
  }

  /// The property's value; before parsing the default.
  var value: Value {
    switch self {
    case .value(let value): return value
    case .declared(let declaration):
      guard let initial = declaration.initial else {
        preconditionFailure("A command's properties have values once it has been parsed.")
      }
      return initial
    }
  }

  func declared(as key: [String]) -> [DeclaredArgument] {
    guard case .declared(let declaration) = self else { return [] }
    return [declaration.argument(as: key)]
  }

  /// - Throws: ``UsageError`` where a word gives no value, or the argument must be given and is not.
  func filled(from reading: Reading, key: [String]) throws -> Self {
    guard case .declared(let declaration) = self else { return self }
    let given = reading.given[key] ?? []
    if given.isEmpty, let initial = declaration.initial { return .value(initial) }
    let argument = declaration.argument(as: key)
    guard !given.isEmpty, let value = try declaration.read(given, argument) else {
      throw UsageError.missingArgument(argument)
    }
    return .value(value)
  }
}

extension Declaration {
  fileprivate func argument(as key: [String]) -> DeclaredArgument {
    let shown = initialDescription.flatMap { $0.isEmpty ? nil : $0 }
    return DeclaredArgument(
      key: key, kind: kind, names: name.names(for: key.last ?? ""), arity: arity,
      isRequired: initial == nil, choices: choices, isNumber: isNumber, defaultDescription: shown,
      help: help, completion: completion, isHidden: help.visibility == .hidden)
  }
}
