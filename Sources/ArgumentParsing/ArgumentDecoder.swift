// Commands are made by `Decodable`: this decoder hands each property what the command line gave it.
//
// So a command's initialiser is the one that the compiler writes, its properties stay values, and
// nothing is changed behind the type system's back.

/// A property wrapper that declares arguments.
protocol DeclaringWrapper {
  func declared(as key: [String]) -> [DeclaredArgument]
  /// A copy that holds what the command line gave, or the default.
  func filled(from reading: Reading, key: [String]) throws -> Self
}

/// One that declares a single argument.
protocol ArgumentWrapper: DeclaringWrapper {
  associatedtype Value
  var state: Declaration<Value> { get set }
}

extension ArgumentWrapper {
  func declared(as key: [String]) -> [DeclaredArgument] { state.declared(as: key) }

  func filled(from reading: Reading, key: [String]) throws -> Self {
    var filled = self
    filled.state = try state.filled(from: reading, key: key)
    return filled
  }
}

/// A value as it was given, and for options the name it was given by.
public struct GivenValue: Sendable, Equatable {
  public let word: String
  /// With its dashes; nil for an argument.
  public let name: String?
}

/// What is read into a command, and the checks that wait until all of it is.
final class Reading {
  let given: [[String]: [GivenValue]]
  private(set) var checks: [() throws -> Void] = []

  init(_ given: [[String]: [GivenValue]]) { self.given = given }

  func check(_ check: @escaping () throws -> Void) { checks.append(check) }

  /// Commands are `Decodable` for the parser's sake only.
  static var onlyByParsing: any Error {
    DecodingError.dataCorrupted(
      .init(codingPath: [], debugDescription: "commands are made from command lines only"))
  }
}

extension DeclaredArgument {
  /// What a command, or a group of options, declares; in its order.
  static func all(of declaring: any ParsableArguments, under key: [String] = []) -> [Self] {
    Mirror(reflecting: declaring).children.flatMap { child in
      guard let wrapper = child.value as? any DeclaringWrapper, let label = child.label else {
        return [DeclaredArgument]()
      }
      // The storage of a wrapped property is called like it, with an underscore before.
      return wrapper.declared(as: key + [String(label.dropFirst())])
    }
  }
}

/// Decodes a command, or a group of options, from a fresh one and the words given.
struct ArgumentDecoder: Decoder {
  private let properties: [String: Any]
  private let reading: Reading
  let codingPath: [any CodingKey] = []
  let userInfo: [CodingUserInfoKey: Any] = [:]
  private let key: [String]

  init(declaring: any ParsableArguments, reading: Reading, key: [String] = []) {
    var properties: [String: Any] = [:]
    for child in Mirror(reflecting: declaring).children {
      guard let label = child.label else { continue }
      let isWrapper = child.value is any DeclaringWrapper
      properties[isWrapper ? String(label.dropFirst()) : label] = child.value
    }
    self.properties = properties
    self.reading = reading
    self.key = key
  }

  func container<Key: CodingKey>(keyedBy: Key.Type) -> KeyedDecodingContainer<Key> {
    KeyedDecodingContainer(Properties<Key>(values: properties, reading: reading, path: key))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer { throw Reading.onlyByParsing }

  func singleValueContainer() throws -> any SingleValueDecodingContainer {
    throw Reading.onlyByParsing
  }

  private struct Properties<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let values: [String: Any]
    let reading: Reading
    let path: [String]
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { values.keys.compactMap(Key.init(stringValue:)) }

    func contains(_ key: Key) -> Bool { values[key.stringValue] != nil }

    func decodeNil(forKey key: Key) -> Bool {
      guard let value = values[key.stringValue] else { return true }
      let mirror = Mirror(reflecting: value)
      return mirror.displayStyle == .optional && mirror.children.isEmpty
    }

    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
      var value = values[key.stringValue]
      if let wrapper = value as? any DeclaringWrapper {
        value = try wrapper.filled(from: reading, key: path + [key.stringValue])
      }
      // A property without a wrapper keeps the value that it is declared with.
      guard let value = value as? T else { throw Reading.onlyByParsing }
      return value
    }

    func nestedContainer<Nested: CodingKey>(
      keyedBy: Nested.Type, forKey: Key
    ) throws -> KeyedDecodingContainer<Nested> { throw Reading.onlyByParsing }

    func nestedUnkeyedContainer(forKey: Key) throws -> any UnkeyedDecodingContainer {
      throw Reading.onlyByParsing
    }

    func superDecoder() throws -> any Decoder { throw Reading.onlyByParsing }
    func superDecoder(forKey: Key) throws -> any Decoder { throw Reading.onlyByParsing }
  }
}
