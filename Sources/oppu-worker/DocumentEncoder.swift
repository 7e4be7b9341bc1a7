// A value as a document for programs: one naming of keys, and every field there, also one without a value.

import Foundation
import JSON
import Personalization

/// Turns `Encodable` values into JSON with the fields' names in snake_case, as messages have them, and null where
/// there is no value. What users and other programs wrote (`JSONValue`, keys of dictionaries) stays as it is.
struct DocumentEncoder: Encoder {
  /// What becomes of a value, filled in while it is encoded.
  fileprivate final class Place {
    var value = JSONValue.null
    var fields: [String: Place]?
    var items: [Place]?

    var json: JSONValue {
      if let fields { return .object(fields.mapValues(\.json)) }
      if let items { return .array(items.map(\.json)) }
      return value
    }
  }

  fileprivate let place: Place
  let codingPath: [any CodingKey] = []
  let userInfo: [CodingUserInfoKey: Any] = [:]

  /// - Throws: what the value's own encoding throws.
  static func json(_ value: some Encodable) throws -> JSONValue {
    switch value {
    case let value as JSONValue: return value
    case let value as String: return .string(value)
    case let value as Bool: return .bool(value)
    case let value as Double: return value.isFinite ? .number(value) : .null
    // By its shortest form: 0.1 is not 0.10000000149011612.
    case let value as Float:
      return Double("\(value)").map { $0.isFinite ? .number($0) : .null } ?? .null
    case let value as any BinaryInteger:
      let whole = Int64(clamping: value)
      return whole.magnitude > 1 << 53 ? .integer("\(value)") : .number(Double(whole))
    case let value as Date: return .string(value.formatted(.iso8601))
    case let value as [String: any Encodable]: return .object(try value.mapValues { try json($0) })
    default:
      let place = Place()
      try value.encode(to: DocumentEncoder(place: place))
      return place.json
    }
  }

  /// `userID` is `user_id`, `weightsSHA256` is `weights_sha256`; what is in snake_case stays so.
  static func name(_ key: String) -> String {
    let letters = Array(key)
    var name = ""
    for (index, letter) in letters.enumerated() {
      let isNewWord =
        letter.isUppercase && index > 0 && letters[index - 1] != "_"
        && (!letters[index - 1].isUppercase
          || (index + 1 < letters.count && letters[index + 1].isLowercase))
      name += (isNewWord ? "_" : "") + letter.lowercased()
    }
    return name
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    place.fields = place.fields ?? [:]
    return KeyedEncodingContainer(Fields<Key>(place: place))
  }
  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    place.items = place.items ?? []
    return Items(place: place)
  }
  func singleValueContainer() -> any SingleValueEncodingContainer { Single(place: place) }

  private struct Single: SingleValueEncodingContainer {
    let place: Place
    let codingPath: [any CodingKey] = []

    func encodeNil() throws { place.value = .null }
    func encode<T: Encodable>(_ value: T) throws { place.value = try json(value) }
  }

  private struct Items: UnkeyedEncodingContainer {
    let place: Place
    let codingPath: [any CodingKey] = []
    var count: Int { place.items?.count ?? 0 }

    private func next() -> Place {
      let item = Place()
      place.items?.append(item)
      return item
    }
    func encodeNil() throws { _ = next() }
    func encode<T: Encodable>(_ value: T) throws { next().value = try json(value) }
    func nestedContainer<Key: CodingKey>(keyedBy: Key.Type) -> KeyedEncodingContainer<Key> {
      DocumentEncoder(place: next()).container(keyedBy: Key.self)
    }
    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
      DocumentEncoder(place: next()).unkeyedContainer()
    }
    func superEncoder() -> any Encoder { DocumentEncoder(place: next()) }
  }

  private struct Fields<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let place: Place
    let codingPath: [any CodingKey] = []

    private func field(_ name: String) -> Place {
      let field = Place()
      place.fields?[DocumentEncoder.name(name)] = field
      return field
    }
    private func put<T: Encodable>(_ value: T?, _ key: Key) throws {
      field(key.stringValue).value = try value.map { try json($0) } ?? .null
    }
    func encodeNil(forKey key: Key) throws { _ = field(key.stringValue) }
    func encode<T: Encodable>(_ value: T, forKey key: Key) throws { try put(value, key) }
    // Each by itself: by default they leave a field without a value out.
    func encodeIfPresent(_ value: Bool?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: String?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Double?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Float?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Int?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Int8?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Int16?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Int32?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: Int64?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: UInt?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: UInt8?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: UInt16?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: UInt32?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent(_ value: UInt64?, forKey key: Key) throws { try put(value, key) }
    func encodeIfPresent<T: Encodable>(_ value: T?, forKey key: Key) throws { try put(value, key) }
    func nestedContainer<Other: CodingKey>(
      keyedBy: Other.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Other> {
      DocumentEncoder(place: field(key.stringValue)).container(keyedBy: Other.self)
    }
    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
      DocumentEncoder(place: field(key.stringValue)).unkeyedContainer()
    }
    func superEncoder() -> any Encoder { DocumentEncoder(place: field("super")) }
    func superEncoder(forKey key: Key) -> any Encoder {
      DocumentEncoder(place: field(key.stringValue))
    }
  }
}
