// Reference values that several modules are measured by, and the words they are counted in.

import Foundation
import JSON

/// A file of Tests/Fixtures.
public func fixture(_ path: String) throws -> JSONValue {
  try JSONValue(
    reading: Data(contentsOf: Paths.root.appending(path: "Tests/Fixtures/\(path)")),
    rules: .modelFiles)
}

/// A tokenizer's length as tests see it: words and line ends.
@Sendable public func countWords(_ text: String) -> Int {
  text.split(separator: "\n", omittingEmptySubsequences: false)
    .reduce(-1) { $0 + 1 + $1.split(separator: " ").count }
}
