// Other programs, started and asked for their figures: the peers, and this one's own measurements.

import Foundation

/// Why a program gave no figures.
struct PeerError: Error, CustomStringConvertible {
  let description: String
}

/// What a peer's script prints.
struct PeerFigures: Decodable {
  struct Training: Decodable {
    let examplesPerS: Double
    let tokensPerS: Double
    let lastEpochLoss: Double
  }

  let runs: [Training]?
  let tokensPerS: Double?
  let prefillTokensPerS: Double?
  let decodeTokensPerS: Double?
  let usersRequestsPerS: Double?
  let versions: [String: String]?
}

/// Starts programs that print one JSON object.
struct PeerPrograms {
  let model: String
  let threads: Int
  /// The Python that has the peers installed.
  let python: String
  /// The folder of this project.
  let project: String

  /// Figures of our own. Throws ``PeerError``.
  func measure(_ what: Measurement, data: [String] = []) throws -> [String: Double] {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    return try run(
      own,
      ["measure", what.rawValue, "--model", model] + data.flatMap { ["--data", $0] },
      as: [String: Double].self)
  }

  /// Figures of a script in Benchmarks/peers. Throws ``PeerError``.
  func peer(_ script: String, _ arguments: [String] = []) throws -> PeerFigures {
    try run(
      python,
      ["\(project)/Benchmarks/peers/\(script)", "--model", model, "--threads", "\(threads)"]
        + arguments,
      as: PeerFigures.self)
  }

  /// What another script in Benchmarks/peers prints; keys in snake case. Throws ``PeerError``.
  func script<Figures: Decodable>(
    _ script: String, _ arguments: [String], as type: Figures.Type
  ) throws -> Figures {
    try run(python, ["\(project)/Benchmarks/peers/\(script)"] + arguments, as: type)
  }

  /// Whether Python finds a package.
  func has(_ package: String) -> Bool {
    (try? output(python, ["-c", "import \(package)"])) != nil
  }

  private func run<Figures: Decodable>(
    _ program: String, _ arguments: [String], as type: Figures.Type
  ) throws -> Figures {
    let data = try output(program, arguments)
    let decoder = JSONDecoder()
    // Keys of our own figures are names of a dictionary and stay as they are.
    if type != [String: Double].self { decoder.keyDecodingStrategy = .convertFromSnakeCase }
    // What a library says on the way comes before the object.
    guard let line = String(decoding: data, as: UTF8.self).split(separator: "\n").last,
      let figures = try? decoder.decode(type, from: Data(line.utf8))
    else {
      throw PeerError(
        description: "\(program) \(arguments.first ?? "") printed no figures: "
          + String(decoding: data.prefix(200), as: UTF8.self))
    }
    return figures
  }

  private func output(_ program: String, _ arguments: [String]) throws -> Data {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.environment = ProcessInfo.processInfo.environment.merging([
      "OPPU_THREADS": "\(threads)", "OMP_NUM_THREADS": "\(threads)",
    ]) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    let errors = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-bench-\(ProcessInfo.processInfo.processIdentifier).log")
    try Data().write(to: errors)
    defer { try? FileManager.default.removeItem(at: errors) }
    process.standardError = try FileHandle(forWritingTo: errors)
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let said = (try? String(contentsOf: errors, encoding: .utf8)) ?? ""
      throw PeerError(
        description: "\(program) \(arguments.prefix(2).joined(separator: " ")) ended with "
          + "\(process.terminationStatus): \(said.suffix(400))")
    }
    return data
  }
}
