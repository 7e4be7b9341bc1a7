// What a declaration says of an option or argument: its names, its help, how a shell completes it.

import Foundation

/// The names of an option or flag.
public struct NameSpecification: Sendable, ExpressibleByArrayLiteral {
  /// One name.
  public struct Element: Sendable {
    fileprivate enum Kind {
      case long
      case short
      case customLong(String)
      case customShort(Character)
    }
    fileprivate let kind: Kind

    /// The property's name in lower case with dashes: `--new-events`.
    public static var long: Element { Element(kind: .long) }
    /// The first letter of the property's name: `-n`.
    public static var short: Element { Element(kind: .short) }
    /// A long name other than the property's, without its dashes.
    public static func customLong(_ name: String) -> Element { Element(kind: .customLong(name)) }
    /// A letter other than the property's first.
    public static func customShort(_ letter: Character) -> Element {
      Element(kind: .customShort(letter))
    }
  }

  private let elements: [Element]

  public init(arrayLiteral elements: Element...) { self.elements = elements }

  public static var long: NameSpecification { [.long] }
  public static var short: NameSpecification { [.short] }
  public static var shortAndLong: NameSpecification { [.short, .long] }
  public static func customLong(_ name: String) -> NameSpecification { [.customLong(name)] }
  public static func customShort(_ letter: Character) -> NameSpecification {
    [.customShort(letter)]
  }

  /// The names with their dashes for a property.
  func names(for property: String) -> [String] {
    elements.map { element in
      switch element.kind {
      case .long: "--" + Spelling.dashed(property)
      case .short: "-" + property.prefix(1).lowercased()
      case .customLong(let name): "--" + name
      case .customShort(let letter): "-\(letter)"
      }
    }
  }
}

/// Where an argument is shown.
public enum ArgumentVisibility: Sendable {
  case `default`
  /// Neither in help nor in completions.
  case hidden
}

/// The help of an option or argument.
public struct ArgumentHelp: Sendable, ExpressibleByStringInterpolation {
  /// What it is for, in a sentence.
  public var abstract: String
  /// More, in a block below.
  public var discussion: String
  /// What stands for the value, without its angle brackets; by default the argument's name.
  public var valueName: String?
  public var visibility: ArgumentVisibility

  public init(
    _ abstract: String = "", discussion: String = "", valueName: String? = nil,
    visibility: ArgumentVisibility = .default
  ) {
    self.abstract = abstract
    self.discussion = discussion
    self.valueName = valueName
    self.visibility = visibility
  }

  public init(stringLiteral value: String) { self.init(value) }
}

/// How a shell completes a value.
public enum CompletionKind: Sendable {
  /// Names of files that end in one of the extensions (without dots); without any, of all files.
  case file(extensions: [String] = [])
  case directory
  case list([String])
  /// Asks the program, which is to be quick.
  ///
  /// The closure gets the words after the program's name up to the cursor, the index of the one to
  /// complete (the last), and that word. What does not begin like it is left out.
  case custom(@Sendable (_ words: [String], _ index: Int, _ prefix: String) -> [String])
}

/// One option, flag or argument as its command declares it: what parsing, help, completion and the
/// manual page go by.
public struct DeclaredArgument: Sendable {
  public enum Kind: Sendable { case option, flag, positional }

  /// The property, after those of the option groups that it is in.
  public let key: [String]
  public let kind: Kind
  /// With their dashes; none for positional arguments.
  public let names: [String]
  public let arity: ArgumentArity
  /// Whether it must be given.
  public let isRequired: Bool
  /// The words it takes, where they are few.
  public let choices: [String]
  /// Whether its value is a number, which may begin with a dash.
  public let isNumber: Bool
  /// The default as it would be given; nil where there is none worth showing.
  public let defaultDescription: String?
  public let help: ArgumentHelp
  public let completion: CompletionKind?
  /// The title of its option group; empty without one.
  public internal(set) var section = ""
  var isHidden = false

  /// What stands for the value: `<limit>`; empty for flags.
  public var placeholder: String {
    if kind == .flag { return "" }
    let name = names.first { $0.hasPrefix("--") }.map { String($0.dropFirst(2)) }
    return "<\(help.valueName ?? name ?? Spelling.dashed(key.last ?? ""))>"
  }

  /// The name by which messages call it: the first long one.
  public var preferredName: String? { names.first { $0.hasPrefix("--") } ?? names.first }

  /// As messages and synopses write it: `--limit <limit>`, `--execute` or `<job>`.
  public func written(as name: String? = nil) -> String {
    [name ?? preferredName, placeholder].compactMap(\.self).filter { !$0.isEmpty }
      .joined(separator: " ")
  }
}
