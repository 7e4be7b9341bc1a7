// The manual page, held against the tools that read such pages.

import Foundation
import TestSupport
import Testing

@testable import ArgumentParsing

@Suite struct ManualPageTests {
  private func page(_ words: String...) -> String {
    do {
      _ = try Tool.parseAsRoot(["help"] + words + ["--man"])
      return ""
    } catch { return Tool.fullMessage(for: error) }
  }

  @Test("One page has all commands, and the options that many share once")
  func content() {
    let page = page()
    for command in CommandInterface(Tool.self).tree.dropFirst() {
      let isShown = command.configuration.shouldDisplay
      #expect(page.contains(".SS \"\(command.invocation)\"") == isShown)
    }
    #expect(page.contains("\n\\fB\\-s\\fR, \\fB\\-\\-shape\\fR \\fI<shape>\\fR\n"))
    #expect(page.components(separatedBy: "\\fB\\-\\-prompt\\fR").count == 2)
    #expect(page.contains(".SH COMMON OPTIONS"))
    #expect(page.contains(".nf\nFirst:    tool draw\n"))
    #expect(!page.contains("secret"))
    #expect(self.page("items", "add").hasPrefix(".TH \"TOOL\\-ITEMS\\-ADD\" 1 \""))
  }

  @Test("What roff would take for its own is escaped")
  func escapes() {
    #expect(ManualPage.escaped("a\\b-c") == "a\\eb\\-c")
    #expect(ManualPage.escaped(".TH x") == "\\&.TH x")
    #expect(ManualPage.escaped("'x\n.y") == "\\&'x\n\\&.y")
    #expect(ManualPage.escaped("say \"x\"") == "say \\(dqx\\(dq")
  }

  @Test(
    "man and mandoc have nothing to say against the page",
    arguments: [["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings=all", "-l"]])
  func readers(command: [String]) throws {
    guard let program = Programs.find(command[0]) else {
      return print("\(command[0]) is not installed: the manual page was not held against it")
    }
    let folder = try TemporaryFolder()
    for words in [[], ["draw"], ["items"]] {
      let file = folder.path + "/tool\(words.joined()).1"
      var text = ""
      do { _ = try Tool.parseAsRoot(["help", "--man"] + words) } catch {
        text = Tool.fullMessage(for: error) + "\n"
      }
      try text.write(toFile: file, atomically: true, encoding: .utf8)
      let result = try Programs.run(program, Array(command.dropFirst()) + [file])
      #expect(result.errors == "")
      if command[0] == "mandoc" { #expect(result.output == "") }
      #expect(result.status == 0)
    }
  }
}

/// Programs of this machine.
enum Programs {
  static func find(_ name: String) -> String? {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
      .map { "\($0)/\(name)" }.first(where: FileManager.default.isExecutableFile)
  }

  static func run(
    _ program: String, _ arguments: [String], in folder: String? = nil,
    environment: [String: String] = [:]
  ) throws -> (status: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let temporary = try TemporaryFolder()
    let names = ["out", "err"].map { temporary.path + "/" + $0 }
    for name in names { try Data().write(to: URL(fileURLWithPath: name)) }
    let files = try names.map { try FileHandle(forWritingTo: URL(fileURLWithPath: $0)) }
    process.standardInput = FileHandle.nullDevice
    (process.standardOutput, process.standardError) = (files[0], files[1])
    try process.run()
    process.waitUntilExit()
    let texts = try names.map { try String(contentsOfFile: $0, encoding: .utf8) }
    return (process.terminationStatus, texts[0], texts[1])
  }
}
