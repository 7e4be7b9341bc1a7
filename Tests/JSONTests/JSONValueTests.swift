import Foundation
import JSON
import Testing

@Suite struct JSONValueTests {
  @Test("a value survives decoding and encoding with every field, in canonical form")
  func roundTrip() throws {
    let text = """
      {"b":[1,2.5,-3,true,null],"a":{"é":"\\"q\\"\\n\\u0001"},"id":9007199254740993,"z":1e300}
      """
    let value = try JSONValue(text: text)
    let canonical =
      "{\"a\":{\"é\":\"\\\"q\\\"\\n\\u0001\"},\"b\":[1,2.5,-3,true,null],"
      + "\"id\":9007199254740993,\"z\":1e+300}"
    #expect(value.canonical == canonical)
    let again = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
    #expect(again == value)
    #expect(try JSONValue(text: value.canonical) == value)
  }

  @Test("whole numbers are written without a point and others in their shortest form")
  func numbers() throws {
    #expect(JSONValue.number(3).canonical == "3")
    #expect(JSONValue.number(3.5).plainText == "3.5")
    #expect(try JSONValue(text: "3.0") == 3)
    #expect(JSONValue.number(.infinity).canonical == "null")
  }

  @Test("arrays become words, objects do not")
  func plainText() throws {
    #expect(try JSONValue(text: "[\"a\", 2, true]").plainText == "a, 2, true")
    #expect(try JSONValue(text: "[\"a\", {}]").plainText == nil)
    #expect(JSONValue.null.plainText == nil)
  }
}
