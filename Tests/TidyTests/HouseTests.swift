// What keeps the house in order: who uses whom, one name for one thing, nothing that nobody uses.

import Foundation
import Testing

@Suite struct HouseTests {
  @Test("a module imports what Package.swift says that it uses, and uses what it says")
  func imports() throws {
    let modules = try Module.all()
    #expect(modules.count > 40)
    let names = Set(modules.map { $0.name.replacing("-", with: "_") })
    for module in modules where module.kind != "systemLibrary" {
      let files = try Repository.swiftFiles(module.folder)
      let imported = Set(
        files.values.flatMap { text in
          text.matches(of: /(?m)^\s*(?:@\w+ )*import (?:(?:struct|enum|class|func) )?(\w+)/)
            .map { String($0.1) }
        }
      ).intersection(names)
      let declared = Set(module.dependencies.map { $0.replacing("-", with: "_") })
      if files.isEmpty { continue }  // of C
      let undeclared = imported.subtracting(declared).sorted()
      #expect(undeclared.isEmpty, "\(module.name) imports \(undeclared) undeclared")
      let idle = declared.subtracting(imported).sorted()
      #expect(idle.isEmpty, "\(module.name) declares \(idle) and does not import it")
    }
  }

  @Test("docs/architecture.md says who uses whom as Package.swift does")
  func graph() throws {
    let lines = try Module.all().filter { !$0.dependencies.isEmpty && $0.kind != "testTarget" }
      .map { "\($0.name): \($0.dependencies.sorted().joined(separator: ", "))" }
    let graph = "```modules\n\(lines.joined(separator: "\n"))\n```"
    #expect(try Repository.text("docs/architecture.md").contains(graph), "it should be:\n\(graph)")
  }

  @Test("no two types of the project have one name")
  func typeNames() throws {
    var places: [String: [String]] = [:]
    for (path, code) in try Repository.code("Sources", "Benchmarks") {
      let types = code.matches(
        of: /(?m)^(?:(?:public|package|final|indirect) )*(?:struct|class|enum|actor|protocol) (\w+)/
      )
      for type in types { places[String(type.1), default: []].append(path) }
    }
    #expect(places.count > 500)
    for (name, paths) in places where paths.count > 1 {
      Issue.record("\(name) is declared in \(paths.sorted().joined(separator: " and "))")
    }
  }

  @Test("nothing is declared that nobody uses")
  func unused() throws {
    let code = try Repository.code("Sources", "Benchmarks", "Tests")
    var uses: [Substring: Int] = [:]
    for text in code.values {
      for word in text.matches(of: /\w+/) { uses[word.0, default: 0] += 1 }
    }
    // The language calls these.
    let called: Set<Substring> = ["callAsFunction", "unownedExecutor"]
    for (path, text) in code where !path.hasPrefix("Tests/") {
      let entrances = Set(text.matches(of: /@main\s+struct (\w+)/).map(\.1))
      let declarations = text.matches(
        of: /\b(?:func|var|let|struct|class|enum|actor|protocol|typealias) `?(\w+)/)
      for name in declarations.map(\.1)
      where uses[name] == 1 && !called.contains(name) && !entrances.contains(name) {
        Issue.record("\(name) in \(path)")
      }
    }
  }

  @Test("every public type, function and subscript is documented")
  func documented() throws {
    let keywords: Set<Substring> = [
      "actor", "class", "enum", "func", "protocol", "struct", "subscript", "typealias",
    ]
    let modifiers: Set<Substring> = [
      "public", "static", "final", "indirect", "mutating", "nonisolated", "nonmutating", "override",
    ]
    // These a protocol documents, once for all that conform to it.
    let witnesses = [
      "== (", "< (", "encode(to ", "hash(into ", "run() async throws {", "run() throws {",
      "postgresValue()", "write(to writer:", "step(on connection:", "log(level: Logger.Level,",
      "validate() throws {}", "gathered(_ ", "elements(of value:", "fromClient(_ bytes:",
      "fromServer(_ bytes:",
    ]
    func unindented(_ line: Substring) -> Substring { line.drop(while: \.isWhitespace) }
    var count = 0
    for (path, text) in try Repository.swiftFiles("Sources") {
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      var isInProtocol = false
      for (index, line) in lines.enumerated() {
        if line.hasPrefix("public protocol ") { isInProtocol = !line.hasSuffix("}") }
        if line == "}" { isInProtocol = false }
        let words = line.split(separator: " ").drop { $0.hasPrefix("@") }
        guard words.first == "public" || isInProtocol else { continue }
        let declaration = words.drop { modifiers.contains($0) }
        guard let word = declaration.first, keywords.contains(word.prefix { $0.isLetter }) else {
          continue
        }
        count += 1
        let name = declaration.dropFirst().joined(separator: " ")
        if witnesses.contains(where: name.hasPrefix) { continue }
        let above = lines[..<index].last { !unindented($0).hasPrefix("@") }
        if above.map({ unindented($0).hasPrefix("///") }) != true {
          Issue.record("\(path), line \(index + 1): \(unindented(line))")
        }
      }
    }
    #expect(count > 1_000)
  }

  @Test("every advisory lock has a number of its own, and all stand in one place")
  func locks() throws {
    var found: [String: [String]] = [:]
    for (path, code) in try Repository.code("Sources") {
      for number in code.matches(of: /0x6F70_7075(?:_\w+)?/) {
        found[String(number.0), default: []].append(path)
      }
    }
    #expect(found.count >= 5)
    for (number, paths) in found { #expect(paths.count == 1, "\(number) in \(paths)") }
    let places = Set(found.values.joined())
    #expect(
      places.isSubset(of: [
        "Sources/Storage/AdvisoryLock.swift", "Sources/Storage/Erasure/ErasureRepository.swift",
        "Sources/Worker/Process/WorkerSlot.swift",
      ]), "\(places.sorted())")
  }

  @Test("what is removed for its age is old by the database's clock, never by this machine's")
  func clocks() throws {
    let code = try Repository.code("Sources/Worker/Maintenance")
      .merging(["Retention": try Repository.text("Sources/Storage/Retention.swift")]) { $1 }
    #expect(code.count > 5)
    for (path, text) in code {
      #expect(text.firstMatch(of: /\bDate\(\)|Date\.now|timeIntervalSinceNow/) == nil, "\(path)")
    }
  }

  @Test("the walks of docs/architecture.md name files that are there, and what is in them")
  func walks() throws {
    let page = try Repository.text("docs/architecture.md")
    let begin = try #require(page.range(of: "## Follow one event"))
    let end = try #require(page.range(of: "## A behaviour event's way"))
    var files: Set<String> = []
    let stations = page[begin.lowerBound..<end.lowerBound].matches(
      of: /`([\w\-\/]+\.(?:swift|c|h))`((?:,? `[^`\/]+`)*)/)
    for station in stations {
      let path = String(station.1)
      guard path.contains("/") else { continue }
      files.insert(path)
      guard let text = try? Repository.text("Sources/\(path)") else {
        Issue.record("there is no \(path)")
        continue
      }
      for name in station.2.matches(of: /`([^`]+)`/) {
        let last = name.1.split(separator: ".").last.map(String.init) ?? ""
        #expect(text.contains(last), "\(path) has no \(last)")
      }
    }
    #expect(files.count > 100)
  }

  @Test("no file names a folder of the machine that it was written on")
  func machinePaths() throws {
    for folder in ["Sources", "Tests", "Benchmarks", "docs", "scripts", "deploy", ".ci"] {
      let below = FileManager.default.enumerator(
        atPath: Repository.root.appending(path: folder).path)
      for case let path as String in below ?? .init() {
        guard let text = try? Repository.text("\(folder)/\(path)") else { continue }
        let found = text.firstMatch(of: /\/(?:work|home|Users|root)\/\w+/)
        if let found, !path.hasPrefix("TidyTests/") {
          Issue.record("\(folder)/\(path): \(found.0)")
        }
      }
    }
  }
}
