import Foundation
import Testing

@testable import EvaluationReport

#if canImport(FoundationXML)
  import FoundationXML
#endif

@Suite struct HTMLReportTests {
  /// The page as an XML parser sees it.
  final class Page: NSObject, XMLParserDelegate {
    var elements: [String: Int] = [:]
    var ids: [String] = []
    var attributes: [(name: String, value: String)] = []
    var svgs: [[String: String]] = []
    var text = ""
    var path: [String] = []
    var hasTextAlternatives = true
    private var pending: Set<String> = []

    init(_ html: String) throws {
      super.init()
      let parser = XMLParser(data: Data(html.utf8))
      parser.delegate = self
      guard parser.parse() else {
        throw ResultsFileError(
          file: "page", key: "line \(parser.lineNumber)", problem: "\(parser.parserError as Any)")
      }
    }

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
      qualifiedName: String?, attributes values: [String: String]
    ) {
      elements[name, default: 0] += 1
      attributes += values.map { ($0.key, $0.value) }
      if let id = values["id"] { ids.append(id) }
      if name == "svg", values["aria-hidden"] == nil {
        svgs.append(values)
        pending = ["title", "desc"]
      }
      pending.remove(name)
      path.append(name)
    }

    func parser(
      _ parser: XMLParser, didEndElement name: String, namespaceURI: String?,
      qualifiedName: String?
    ) {
      path.removeLast()
      if name == "svg" { hasTextAlternatives = hasTextAlternatives && pending.isEmpty }
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) {
      if path.last != "style" { text += string }
    }
  }

  static let known: Set<String> = [
    "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "p",
    "section", "ul", "li", "span", "a", "div", "figure", "figcaption", "svg", "desc", "text",
    "line", "rect", "circle", "path", "details", "summary", "table", "thead", "tbody", "tr", "th",
    "td", "small", "dl", "dt", "dd", "code", "bdi",
  ]

  @Test("whatever labels and user ids hold, it stays text: in the page, in attributes, in plots")
  func hostile() throws {
    let html = HTMLReport([Samples.hostile, Samples.news], title: Samples.evil).html
    let page = try Page(html)
    #expect(Set(page.elements.keys).isSubset(of: Self.known))
    #expect(!page.attributes.contains { $0.name.hasPrefix("on") })
    #expect(!html.contains("<script"))
    #expect(!html.unicodeScalars.contains { $0.value == 0 || $0.value == 8 || $0.value == 0x202E })
    // It is there, unharmed, as text.
    #expect(page.text.contains("<script>alert(\"x\")</script>' onload='x' & ]]>"))
  }

  @Test(
    "the page is well-formed and every plot has a role, a title and a description",
    arguments: [
      [.news], [.news, .hostile], [.empty], [.withoutNumbers], [.empty, .withoutNumbers, .news], [],
    ] as [[Sample]])
  func wellFormed(samples: [Sample]) throws {
    let page = try Page(HTMLReport(samples.map(\.results)).html)
    #expect(Set(page.ids).count == page.ids.count)
    #expect(page.hasTextAlternatives)
    for svg in page.svgs {
      #expect(svg["role"] == "img" && svg["viewBox"] != nil)
      let labels = (svg["aria-labelledby"] ?? "").split(separator: " ").map(String.init)
      #expect(labels.count == 2 && Set(labels).isSubset(of: Set(page.ids)))
    }
    let numbers = page.attributes.filter {
      ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"].contains($0.name)
    }
    #expect(numbers.allSatisfy { Double($0.value)?.isFinite == true })
    // Links stay in the page and lead somewhere.
    for link in page.attributes where link.name == "href" {
      #expect(link.value.hasPrefix("#") && page.ids.contains(String(link.value.dropFirst())))
    }
  }

  @Test("the page needs nothing beside it: no script, no address, no import")
  func selfContained() {
    let html = HTMLReport([Samples.news, Samples.news]).html
    for word in ["http:", "https:", "//", "@import", "url(", "<script", "<link", "<img", "src="] {
      #expect(!html.contains(word), "\(word)")
    }
  }

  @Test("numbers stand in a table under every plot, and settings and provenance at the end")
  func numbers() throws {
    let html = HTMLReport([Samples.news]).html
    let page = try Page(html)
    #expect(page.elements["figure"] == 10)
    #expect(page.elements["table"] == 10 + 3)
    for text in [
      "0.710", "0.620 to 0.800", "2 min 10 s", "460,800", "97.1 %", "lora.rank", "q, v", "ab12",
      "2 cores, 8 GiB, Debian 12", "2026-09-21 14:27:20 UTC", "oppu-worker evaluate --task LaMP_2N",
      "2 of 3 users were done", "row 17", "31–1200 items",
    ] { #expect(page.text.contains(text), "\(text)") }
    let words = try #require(html.range(of: "OPPU beats the best prompt-based arm"))
    let figure = try #require(html.range(of: "<figure"))
    #expect(words.lowerBound < figure.lowerBound)
  }

  @Test("settings that tasks share are listed once, others by task")
  func sharedSettings() throws {
    var other = Samples.news
    other.task = "LaMP_4"
    other.configuration = ["preset": "reference", "lora": ["rank": 8, "targets": ["q", "v"]]]
    let text = HTMLReport([Samples.news, other]).html
    #expect(text.components(separatedBy: "lora.rank").count == 2)
    #expect(text.components(separatedBy: ">preset<").count == 3)
  }
}
