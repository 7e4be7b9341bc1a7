import Foundation
import PostgresClient
import Testing

@Suite("Values")
struct ValueTests {
  @Test("A value of every type comes back as it was sent")
  func roundTrip() async throws {
    try await Server.withClient { client in
      let uuid = UUID()
      let data = Data((0...255).map { UInt8($0) })
      let date = Date(timeIntervalSince1970: 1_700_000_000.123456)
      let row = try #require(
        try await client.query(
          """
          SELECT \("text")::text AS t, \(Int.min) AS i, \(Int32.max) AS i4, \(Int64.max) AS i8,
            \(1.0e-300) AS d, \(Float(0.1)) AS f, \(true) AS b, \(data) AS bytes, \(date) AS at,
            \(uuid) AS id, \(["a", "", "c,\"}\\"]) AS ts, \([Int64.min, 0, 7]) AS is,
            \([0.5, -.infinity]) AS ds, \(PostgresJSON(["k": [1, 2]])) AS j,
            \(["x", nil] as [String?]) AS os, \([] as [String]) AS none
          """
        ).first)
      #expect(try row.decode("t", as: String.self) == "text")
      #expect(try row.decode("i", as: Int.self) == Int.min)
      #expect(try row.decode("i4", as: Int32.self) == Int32.max)
      #expect(try row.decode("i8", as: Int64.self) == Int64.max)
      #expect(try row.decode("d", as: Double.self) == 1.0e-300)
      #expect(try row.decode("f", as: Float.self) == 0.1)
      #expect(try row.decode("b", as: Bool.self))
      #expect(try row.decode("bytes", as: Data.self) == data)
      #expect(abs(try row.decode("at", as: Date.self).timeIntervalSince(date)) < 1e-6)
      #expect(try row.decode("id", as: UUID.self) == uuid)
      #expect(try row.decode("ts", as: [String].self) == ["a", "", "c,\"}\\"])
      #expect(try row.decode("is", as: [Int64].self) == [.min, 0, 7])
      #expect(try row.decode("ds", as: [Double].self) == [0.5, -.infinity])
      #expect(
        try row.decode("j", as: PostgresJSON<[String: [Int]]>.self).value == ["k": [1, 2]])
      #expect(try row.decode("os", as: [String?].self) == ["x", nil])
      #expect(try row.decode("none", as: [String].self) == [])
    }
  }

  @Test("Nil is NULL of the right type, and NULL decodes only into an optional")
  func null() async throws {
    try await Server.withClient { client in
      let (text, number, data, list): (String?, Int?, Data?, [String]?) = (nil, nil, nil, nil)
      let rows = try await client.query(
        """
        SELECT \(text)::text AS t, \(number) AS i, \(data) AS b, \(list) AS l,
          pg_typeof(\(number))::text AS type
        """)
      let row = try #require(rows.first)
      #expect(try row.decode("t", as: String?.self) == nil)
      #expect(try row.decode("i", as: Int?.self) == nil)
      #expect(try row.decode("b", as: Data?.self) == nil)
      #expect(try row.decode("l", as: [String]?.self) == nil)
      #expect(try row.decode("type", as: String.self) == "bigint")
      let error = #expect(throws: PostgresError.self) { try row.decode("i", as: Int.self) }
      #expect(error?.description.contains("\"i\" is NULL") == true)
    }
  }

  @Test("Awkward text survives as a parameter, in an array and through COPY")
  func awkwardText() async throws {
    let texts = [
      "", " ", "'; DROP TABLE x; --", "\"quoted\"", "back\\slash", "\\N", "\\.", "tab\tnew\nline\r",
      "👩‍👩‍👧‍👦 e\u{301}", "{a,b}", "NULL", "عربى", "\u{1}\u{7F}", "$1",
    ]
    try await Server.withClient { client in
      for text in texts {
        let row = try #require(try await client.query("SELECT \(text)::text AS t").first)
        #expect(try row.decode("t", as: String.self) == text)
      }
      let back = try #require(try await client.query("SELECT \(texts) AS t").first)
      #expect(try back.decode("t", as: [String].self) == texts)
      try await client.withConnection { connection in
        try await connection.executeScript(
          "CREATE TEMP TABLE awkward (n int, \"odd \"\"name\" text, list text[])")
        let count = try await connection.copyIn(
          table: "awkward", columns: ["n", "odd \"name", "list"],
          rows: texts.enumerated().map { number, text in
            [.int(Int64(number)), .text(text), .array(.text, [.text(text), nil])]
          })
        #expect(count == texts.count)
        let rows = try await connection.query(
          "SELECT \"odd \"\"name\" AS t, list FROM awkward ORDER BY n")
        for (row, text) in zip(rows, texts) {
          #expect(try row.decode("t", as: String.self) == text)
          #expect(try row.decode("list", as: [String?].self) == [text, nil])
        }
        try await connection.execute("DROP TABLE awkward")
      }
    }
  }

  @Test("COPY takes every type, NULL, and all 256 byte values")
  func copyTypes() async throws {
    let data = Data((0...255).map { UInt8($0) })
    let uuid = UUID()
    let dates = [-62_135_596_800.0, -1.5, -0.000001, 0, 951_782_400.25, 4_102_444_800].map {
      Date(timeIntervalSince1970: $0)
    }
    try await Server.withClient { client in
      try await client.withConnection { connection in
        try await connection.executeScript(
          """
          CREATE TEMP TABLE kinds (n int, b bytea, u uuid, j jsonb, d float8, f bool,
            at timestamptz, ds float8[])
          """)
        let rows: [[PostgresValue?]] = try dates.enumerated().map { number, date in
          [
            .int32(Int32(number)), .bytes(data), .uuid(uuid), try .json(encoding: ["a\n\\": "\t"]),
            .double(number == 0 ? .nan : 1.5), .bool(number % 2 == 0), .timestamp(date),
            .array(.float8, [.double(0.1), nil]),
          ]
        }
        try await connection.copyIn(
          table: "kinds", columns: ["n", "b", "u", "j", "d", "f", "at", "ds"],
          rows: rows + [[.int(99), nil, nil, nil, nil, nil, nil, nil]])
        let back = try await connection.query("SELECT * FROM kinds ORDER BY n")
        #expect(back.count == dates.count + 1)
        for (row, date) in zip(back, dates) {
          #expect(try row.decode("b", as: Data.self) == data)
          #expect(try row.decode("u", as: UUID.self) == uuid)
          #expect(
            try row.decode("j", as: PostgresJSON<[String: String]>.self).value == ["a\n\\": "\t"])
          #expect(abs(try row.decode("at", as: Date.self).timeIntervalSince(date)) < 1e-6)
          #expect(try row.decode("ds", as: [Double?].self) == [0.1, nil])
        }
        #expect(try back[0].decode("d", as: Double.self).isNaN)
        #expect(try back[dates.count].decode("b", as: Data?.self) == nil)
        try await connection.execute("DROP TABLE kinds")
      }
    }
  }

  @Test("Dates before 1970 keep their microseconds, in the server's eyes too")
  func dates() async throws {
    try await Server.withClient { client in
      for (seconds, text) in [
        (-0.000001, "1969-12-31 23:59:59.999999"), (-86_400.5, "1969-12-30 23:59:59.5"),
        (951_782_400.000001, "2000-02-29 00:00:00.000001"),
      ] {
        let date = Date(timeIntervalSince1970: seconds)
        let row = try #require(
          try await client.query(
            "SELECT (\(date) AT TIME ZONE 'UTC')::text AS t, \(date) AS d"
          ).first)
        #expect(try row.decode("t", as: String.self) == text)
        #expect(abs(try row.decode("d", as: Date.self).timeIntervalSince(date)) < 5e-7)
      }
    }
  }

  @Test("numeric decodes as text, integer and floating point")
  func numeric() async throws {
    try await Server.withClient { client in
      for text in ["0", "-1", "10000", "12345678.000120", "-0.00050", "1000000000000", "NaN"] {
        let row = try #require(
          try await client.query("SELECT \(unsafeSQL: "'\(text)'")::numeric AS n").first)
        #expect(try row.decode("n", as: String.self) == text)
      }
      let sum = try #require(
        try await client.query(
          "SELECT sum(x) AS s, avg(x) AS a, count(*) AS n FROM unnest(\([1, 2, 4])) x"
        ).first)
      #expect(try sum.decode("s", as: Int.self) == 7)
      #expect(try sum.decode("n", as: Int.self) == 3)
      #expect(abs(try sum.decode("a", as: Double.self) - 7.0 / 3) < 1e-12)
    }
  }

  @Test("A wrong column or type is an error that names it")
  func decodingErrors() async throws {
    try await Server.withClient { client in
      let row = try #require(
        try await client.query("SELECT 'x'::text AS name, 1 << 20 AS big, '1s'::interval AS i")
          .first)
      #expect(
        #expect(throws: PostgresError.self) { try row.decode("nme", as: String.self) }?
          .description.contains("no column \"nme\"; the columns are name, big, i") == true)
      #expect(
        #expect(throws: PostgresError.self) { try row.decode("name", as: Int.self) }?
          .description.contains("\"name\" holds text") == true)
      #expect(throws: PostgresError.self) { try row.decode("i", as: String.self) }
      #expect(throws: PostgresError.self) { try row.decode("big", as: Bool.self) }
    }
  }

  @Test("U+0000 in text and a statement is refused, not cut off")
  func nul() async throws {
    try await Server.withClient { client in
      await #expect(throws: PostgresError.self) { try await client.query("SELECT \("a\0b")::text") }
      await #expect(throws: PostgresError.self) {
        try await client.query("SELECT \(["a\0b"])")
      }
      await #expect(throws: PostgresError.self) {
        try await client.query(PostgresQuery(unsafeSQL: "SELECT 1\0, 2"))
      }
    }
  }

  @Test("Queries compose and number their parameters afresh")
  func composition() async throws {
    let condition: PostgresQuery = "a = \(1) AND b = \("x")"
    let query: PostgresQuery = "SELECT \(2) WHERE \(condition)" + " LIMIT \(3)"
    #expect(query.sql == "SELECT $1 WHERE a = $2 AND b = $3 LIMIT $4")
  }
}
