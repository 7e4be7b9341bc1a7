// A profile without a model: what a user's history says, counted and put in a sentence or two.

import Foundation
import JSON

/// A short text computed from a user's history for a task: the same history always gives the same.
public enum ComputedProfile {
  /// The newest items that a profile looks at.
  public static let window = 128

  /// What the newest `window` items say, or nil for a history that says nothing.
  ///
  /// Label tasks: the up to three commonest labels with their shares, and the commonest of the
  /// newest eight where that is another; choices between texts: the words of what was chosen.
  /// Rating tasks: the mean and the commonest rating, and the words of items rated clearly higher
  /// or lower. Text tasks: length, capitals, punctuation and favourite words.
  public static func text(
    for history: some BidirectionalCollection<HistoryItem>, task: TaskDefinition
  )
    -> String?
  {
    let items = Array(history.suffix(window))
    guard !items.isEmpty else { return nil }
    switch task.kind {
    case .label:
      if let choices = task.lamp?.choices { return chosenWords(items, choices, task) }
      return labels(items)
    case .rating: return ratings(items, task)
    case .text: return style(items.map(\.output))
    }
  }

  // MARK: Labels

  private static func labels(_ items: [HistoryItem]) -> String {
    let outputs = items.map(\.output)
    let counts = counted(outputs)
    let usual = ranked(counts).prefix(3).map { label in
      "\(label) (\(percent(counts[label] ?? 0, of: outputs.count)))"
    }
    var text = "This user's usual answers: \(usual.joined(separator: ", "))."
    let latest = counted(outputs.suffix(8))
    if outputs.count >= 16, let now = ranked(latest).first, now != ranked(counts).first,
      latest[now] ?? 0 >= 4
    {
      text += " Lately mostly \(now)."
    }
    return text
  }

  private static func chosenWords(
    _ items: [HistoryItem], _ choices: LaMPChoices, _ task: TaskDefinition
  ) -> String? {
    let chosen = items.compactMap { item in
      task.labels.firstIndex(of: item.output)
        .flatMap { item.input[choices.options[$0]]?.plainText }
    }
    let words = favourites(in: chosen, most: 8)
    guard !words.isEmpty else { return nil }
    return "Words of this user's choices: \(words.joined(separator: ", "))."
  }

  // MARK: Ratings

  private static func ratings(_ items: [HistoryItem], _ task: TaskDefinition) -> String? {
    let rated = items.compactMap { item in Double(item.output).map { (item: item, rating: $0) } }
    let counts = counted(rated.map(\.item.output))
    guard let common = ranked(counts).first else { return nil }
    let mean = rated.reduce(0) { $0 + $1.rating } / Double(rated.count)
    var text =
      "This user's mean rating is \(JSONValue.text(of: (mean * 10).rounded() / 10)), "
      + "most often \(common) (\(percent(counts[common] ?? 0, of: rated.count)))."
    // For each word how much its items' mean differs from the whole, drawn towards zero as if four
    // more items had the whole's mean: few items prove little.
    var sums: [String: (sum: Double, count: Int)] = [:]
    for (item, rating) in rated {
      for word in Set(words(task.queryText(item.input)).prefix(80).map { $0.lowercased() }) {
        sums[word, default: (0, 0)].sum += rating - mean
        sums[word, default: (0, 0)].count += 1
      }
    }
    let scale = task.rating.map { $0.maximum - $0.minimum } ?? 4
    var effects = sums.filter { isTelling($0.key) && $0.value.count >= 3 }
      .filter { $0.value.count * 10 <= rated.count * 9 }
      .map { (word: $0.key, effect: $0.value.sum / Double($0.value.count + 4)) }
      .filter { abs($0.effect) >= scale / 12 }
    effects.sort { (-abs($0.effect), $0.word) < (-abs($1.effect), $1.word) }
    for (name, sign) in [("Higher", 1.0), ("Lower", -1.0)] {
      let words = effects.filter { $0.effect * sign > 0 }.prefix(4).map(\.word)
      if !words.isEmpty { text += " \(name): \(words.joined(separator: ", "))." }
    }
    return text
  }

  // MARK: Texts

  private static func style(_ texts: [String]) -> String? {
    let lengths = texts.map { $0.split(whereSeparator: \.isWhitespace).count }.sorted()
    func quantile(_ fraction: Double) -> Int {
      lengths[Int((fraction * Double(lengths.count - 1)).rounded())]
    }
    let (low, high) = (quantile(0.1), quantile(0.9))
    guard high > 0 else { return nil }
    var parts = [
      low == high
        ? "This user writes \(low) \(low == 1 ? "word" : "words")"
        : "This user writes \(low) to \(high) words"
    ]
    if let capitals = capitals(texts) { parts.append(capitals) }
    let signs: [(String, (Character) -> Bool)] = [
      ("a colon", { $0 == ":" }), ("a question mark", { $0 == "?" }),
      ("an exclamation mark", { $0 == "!" }), ("quotation marks", { "\"“”‘".contains($0) }),
      ("brackets", { $0 == "(" || $0 == "[" }), ("a dash", { "–—".contains($0) }),
      ("numbers", { $0.isNumber }), ("hashtags", { $0 == "#" }), ("mentions", { $0 == "@" }),
    ]
    let often = signs.filter { sign in
      texts.count { $0.contains(where: sign.1) } * 3 >= texts.count && texts.count >= 3
    }
    if !often.isEmpty { parts.append("often with \(joined(often.map(\.0)))") }
    var text = parts.joined(separator: ", ") + "."
    let words = favourites(in: texts, most: 6)
    if !words.isEmpty { text += " Favourite words: \(words.joined(separator: ", "))." }
    return text
  }

  /// How the words of texts begin, the first word of each aside, which a sentence capitalises
  /// anyway.
  private static func capitals(_ texts: [String]) -> String? {
    var (words, capital, allCapital) = (0, 0, 0)
    var (starts, lowStarts) = (0, 0)
    for text in texts {
      let pieces = text.split(whereSeparator: \.isWhitespace).filter { $0.first?.isLetter ?? false }
      if let first = pieces.first?.first {
        starts += 1
        if first.isLowercase { lowStarts += 1 }
      }
      for piece in pieces.dropFirst() where piece.count > 3 {
        words += 1
        if piece.first?.isUppercase ?? false { capital += 1 }
        if piece.allSatisfy({ !$0.isLowercase }) { allCapital += 1 }
      }
    }
    if starts > 0, lowStarts * 2 > starts { return "in lower case" }
    guard words >= 10 else { return nil }
    if allCapital * 3 > words { return "in CAPITALS" }
    if capital * 10 >= words * 7 { return "Capitalising Words" }
    return capital * 10 <= words * 4 ? "in sentence case" : nil
  }

  // MARK: Words

  /// Words that tell nothing of a person.
  private static let common: Set<String> = Set(
    """
    about above after again against also although among another because been before being below
    between both cannot could does doing done down during each either else even ever every from
    further genres have having hence here hers herself himself however into itself just less like made
    make many more most much must myself neither never next none often once only onto other ours over
    same shall should since some still such than that their theirs them then there these they thing
    this those though through thus together toward under until upon using very want well were what
    when where whether which while whom whose will with within without would your yours
    """.split(whereSeparator: \.isWhitespace).map(String.init))

  private static func isTelling(_ word: String) -> Bool {
    word.count >= 3 && !common.contains(word) && word.contains(where: \.isLetter)
      && ![
        "and", "the", "for", "are", "but", "not", "you", "all", "any", "can", "had", "her", "was",
        "one", "our", "out", "has", "him", "his", "how", "its", "new", "now", "see", "two", "way",
        "who", "did", "get", "let", "she", "too", "use", "via",
      ].contains(word)
  }

  /// Words as they are written, without the punctuation around them.
  private static func words(_ text: String) -> [String] {
    text.split { !($0.isLetter || $0.isNumber || $0 == "-" || $0 == "'" || $0 == "’") }
      .map { $0.trimmingCharacters(in: CharacterSet(charactersIn: "-'’")) }
      .filter { !$0.isEmpty }
  }

  /// The words in the most texts, at least three and a twentieth of them, each in its usual
  /// spelling.
  private static func favourites(in texts: [String], most: Int) -> [String] {
    var holders: [String: Int] = [:]
    var spellings: [String: [String: Int]] = [:]
    for text in texts {
      var seen: Set<String> = []
      for word in words(text).prefix(80) {
        let folded = word.lowercased()
        guard folded.count >= 4, isTelling(folded), seen.insert(folded).inserted else { continue }
        holders[folded, default: 0] += 1
        spellings[folded, default: [:]][word, default: 0] += 1
      }
    }
    let enough = holders.filter { $0.value >= 3 && $0.value * 20 >= texts.count }
    return ranked(enough).prefix(most).map { ranked(spellings[$0] ?? [:]).first ?? $0 }
  }

  private static func counted(_ texts: some Sequence<String>) -> [String: Int] {
    var counts: [String: Int] = [:]
    for text in texts { counts[text, default: 0] += 1 }
    return counts
  }

  /// Distinct texts, commonest first, then alphabetically.
  private static func ranked(_ counts: [String: Int]) -> [String] {
    counts.sorted { (-$0.value, $0.key) < (-$1.value, $1.key) }.map(\.key)
  }

  private static func percent(_ part: Int, of whole: Int) -> String {
    "\(Int((Double(part) / Double(max(1, whole)) * 100).rounded()))%"
  }

  private static func joined(_ parts: [String]) -> String {
    guard let last = parts.last, parts.count > 1 else { return parts.first ?? "" }
    return parts.dropLast().joined(separator: ", ") + " and " + last
  }
}
