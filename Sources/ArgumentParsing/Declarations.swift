// What a declaration says of an option or argument: its names, its help, how a shell completes it.

/// The names of an option or flag.
public struct NameSpecification: Sendable, ExpressibleByArrayLiteral {
  /// One name.
  public enum Element: Sendable {
    /// The property's name in lower case with dashes: `--new-events`.
    case long
    /// The first letter of the property's name: `-n`.
    case short
    /// A long name other than the property's, without its dashes.
    case customLong(String)
    /// A letter other than the property's first.
    case customShort(Character)
  }

  private let elements: [Element]
  public init(arrayLiteral elements: Element...) { self.elements = elements }

  /// The property's name in lower case with dashes.
  public static var long: Self { [.long] }
  /// The first letter of the property's name.
  public static var short: Self { [.short] }
  /// Both.
  public static var shortAndLong: Self { [.short, .long] }
  /// A long name, given without its dashes.
  public static func customLong(_ name: String) -> Self { [.customLong(name)] }
  /// A letter, given without its dash.
  public static func customShort(_ letter: Character) -> Self { [.customShort(letter)] }

  /// The names with their dashes for a property.
  func names(for property: String) -> [String] {
    elements.map { element in
      switch element {
      case .long: "--" + Spelling.dashed(property)
      case .short: "-" + property.prefix(1).lowercased()
      case .customLong(let name): "--" + name
      case .customShort(let letter): "-\(letter)"
      }
    }
  }
}

/// Where an argument is shown; hidden ones are neither in help nor in completions.
public enum ArgumentVisibility: Sendable {
  case `default`
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
  /// Where it is shown.
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

  /// The sentence alone.
  public init(stringLiteral value: String) { self.init(value) }
}

/// How a shell completes a value.
public enum CompletionKind: Sendable {
  /// Names of files that end in one of the extensions (without dots); without any, of all files.
  case file(extensions: [String] = [])
  case directory
  case list([String])
  /// Asks the program, which is to be quick: with the words after its name up to the cursor, the
  /// index of the one to complete, and its beginning. What begins otherwise is left out.
  case custom(@Sendable (_ words: [String], _ index: Int, _ prefix: String) -> [String])
}

/// One option, flag or argument as its command declares it: what parsing, help, completion and the
/// manual page go by.
public struct DeclaredArgument: Sendable {
  /// How the words of a line are given to it.
  public enum Kind: Sendable {
    case option
    case flag
    case positional
  }

  public let kind: Kind
  let name: NameSpecification
  public let help: ArgumentHelp
  /// Nil where its declaration says nothing of it.
  public let completion: CompletionKind?
  /// How many values it takes.
  public let arity: ArgumentArity
  /// The words it takes, where they are few.
  public let choices: [String]
  /// Whether its value is a number, which may begin with a dash.
  public let isNumber: Bool
  /// Whether it must be given.
  public let isRequired: Bool
  /// The default as it would be given; empty where there is none worth showing.
  public let defaultDescription: String
  /// The property, after those of the option groups that it is in.
  public internal(set) var key: [String] = [] {
    didSet { names = name.names(for: key.last ?? "") }
  }
  /// With their dashes; none for positional arguments.
  public internal(set) var names: [String] = []
  /// The title of its option group; empty without one.
  public internal(set) var section = ""
  var isHidden: Bool { help.visibility == .hidden }

  /// The name by which messages call it: the first long one.
  public var preferredName: String? { names.first { $0.hasPrefix("--") } ?? names.first }

  /// What stands for the value: `<limit>`; empty for flags.
  public var placeholder: String {
    if kind == .flag { return "" }
    let name = preferredName.map { String($0.drop { $0 == "-" }) }
    return "<\(help.valueName ?? name ?? Spelling.dashed(key.last ?? ""))>"
  }

  /// As messages and synopses write it: `--limit <limit>`, `--execute` or `<job>`.
  public func written(as name: String? = nil) -> String {
    ([name ?? preferredName ?? "", placeholder].filter { !$0.isEmpty }).joined(separator: " ")
  }
}
