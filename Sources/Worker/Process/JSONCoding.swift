// Between typed values and the JSON that PostgreSQL keeps.

import Foundation
import JSON
import Personalization

extension JSONEncoder {
  /// As everything is written that is read back from PostgreSQL: numbers that JSON does not know are texts.
  static var stored: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return encoder
  }
}

extension JSONDecoder {
  static var stored: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return decoder
  }
}

extension JSONValue {
  /// Any value that can be encoded, as JSON.
  init(encoding value: some Encodable) throws {
    self = try JSONDecoder().decode(JSONValue.self, from: try JSONEncoder.stored.encode(value))
  }

  func decoded<T: Decodable>(as type: T.Type) throws -> T {
    try JSONDecoder.stored.decode(type, from: try JSONEncoder().encode(self))
  }
}
