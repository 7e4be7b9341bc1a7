// SQL text with parameters that cannot be mistaken for SQL.

/// A statement written as an interpolated string: every `\(value)` becomes a parameter (`$1`, …).
///
///     let query: PostgresQuery = "SELECT input FROM events WHERE user_id = \(user)"
///
/// SQL that has to be spliced in as text goes through `\(unsafeSQL: …)`, the only way round the
/// parameters. A query spliced into a query, or added by `+`, keeps its parameters.
/// A string parameter's type is inferred by the server; where it cannot be (`$1 IS NULL` alone),
/// write a cast: `\(name)::text IS NULL`.
public struct PostgresQuery: ExpressibleByStringInterpolation, Sendable {
  struct Binding: Sendable {
    var value: PostgresValue?
    var typeOID: UInt32
  }

  enum Piece: Sendable {
    case sql(String)
    case binding(Result<Binding, PostgresError>)
  }

  var pieces: [Piece]

  public init(stringLiteral value: String) { pieces = [.sql(value)] }

  public init(stringInterpolation: StringInterpolation) { pieces = stringInterpolation.pieces }

  /// A statement from text that is not a literal. The text is SQL: never put data into it.
  public init(unsafeSQL sql: String) { pieces = [.sql(sql)] }

  /// What the compiler turns an interpolated string into.
  public struct StringInterpolation: StringInterpolationProtocol, Sendable {
    var pieces: [Piece] = []

    public init(literalCapacity: Int, interpolationCount: Int) {
      pieces.reserveCapacity(interpolationCount * 2 + 1)
    }

    /// A piece of the statement as it stands in the source.
    public mutating func appendLiteral(_ literal: String) { pieces.append(.sql(literal)) }

    /// A parameter.
    public mutating func appendInterpolation<T: PostgresEncodable>(_ value: T) {
      appendInterpolation(Optional(value))
    }

    /// A parameter; nil is NULL.
    public mutating func appendInterpolation<T: PostgresEncodable>(_ value: T?) {
      do {
        let encoded = try value?.postgresValue()
        let oid = encoded?.parameterOID ?? T.nullParameterOID
        pieces.append(.binding(.success(Binding(value: encoded, typeOID: oid))))
      } catch let error as PostgresError {
        pieces.append(.binding(.failure(error)))  // thrown when the query is run
      } catch {
        pieces.append(.binding(.failure(.invalidParameter("\(error)"))))
      }
    }

    /// A parameter whose kind is only known at run time.
    public mutating func appendInterpolation(_ value: PostgresValue?) {
      pieces.append(.binding(.success(Binding(value: value, typeOID: value?.parameterOID ?? 0))))
    }

    /// Another query with its parameters.
    public mutating func appendInterpolation(_ query: PostgresQuery) {
      pieces.append(contentsOf: query.pieces)
    }

    /// Text that becomes part of the statement. Never pass data from outside.
    public mutating func appendInterpolation(unsafeSQL sql: String) { pieces.append(.sql(sql)) }
  }

  /// One statement after the other, without anything between; both keep their parameters.
  public static func + (first: PostgresQuery, second: PostgresQuery) -> PostgresQuery {
    var result = first
    result.pieces.append(contentsOf: second.pieces)
    return result
  }

  /// Appends a statement, which keeps its parameters.
  public static func += (first: inout PostgresQuery, second: PostgresQuery) {
    first.pieces.append(contentsOf: second.pieces)
  }

  /// The statement as the server sees it, with `$n` for parameters.
  public var sql: String {
    var text = ""
    var parameters = 0
    for piece in pieces {
      switch piece {
      case .sql(let sql): text += sql
      case .binding:
        parameters += 1
        text += "$\(parameters)"
      }
    }
    return text
  }

  /// The parameters in order.
  ///
  /// - Throws: the error of the first one that has no PostgreSQL form.
  func bindings() throws -> [Binding] {
    try pieces.compactMap { piece in
      if case .binding(let binding) = piece { return try binding.get() }
      return nil
    }
  }
}

/// An identifier in double quotes; a name with dots (`schema.table`) is quoted part by part.
func quotedIdentifier(_ name: String) -> String {
  name.split(separator: ".", omittingEmptySubsequences: false).map { part in
    "\"" + part.replacing("\"", with: "\"\"") + "\""
  }.joined(separator: ".")
}
