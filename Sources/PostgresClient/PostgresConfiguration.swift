// Where a PostgreSQL server is and how many connections may be held to it.

/// How to reach PostgreSQL.
///
/// The connection string is libpq's own, a URI (`postgresql://user@host:5432/database?sslmode=require`)
/// or keywords (`host=db port=5432 dbname=oppu sslrootcert=/etc/ca.pem`), and is passed through
/// unchanged, so every setting that libpq knows (TLS, service files, password files, several hosts)
/// works here. What the string leaves open comes from libpq's environment variables (`PGHOST`, …).
public struct PostgresConfiguration: Sendable {
  /// libpq's connection string. May hold a password: never log it.
  public var connectionString: String
  /// The most connections that the pool opens at once; listeners are not counted. At least 1.
  public var maximumConnections: Int
  /// What the server shows in `pg_stat_activity` unless the connection string names another.
  public var applicationName: String

  /// - Parameters:
  ///   - conninfo: libpq's connection string, a URI or keywords; "" leaves all to libpq's
  ///     environment.
  ///   - maximumConnections: of the pool; less than 1 counts as 1.
  public init(
    _ conninfo: String, maximumConnections: Int = 8, applicationName: String = "oppu-worker"
  ) {
    self.connectionString = conninfo
    self.maximumConnections = max(1, maximumConnections)
    self.applicationName = applicationName
  }
}
