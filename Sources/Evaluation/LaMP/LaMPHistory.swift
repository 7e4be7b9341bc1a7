// A user's profile in a LaMP file: its items as history, in order of time.

import Foundation
import JSON
import Personalization
import RandomNumbers

/// The items of one user's profiles, each id once.
struct LaMPHistory {
  private var items: [HistoryItem] = []
  private var dates: [LaMPDate?] = []
  /// Where an id's item stands; nil for an item that could not be used.
  private var positions: [String: Int?] = [:]

  /// Adds the items whose ids are new. Returns what was wrong.
  mutating func add(
    _ rows: [JSONValue], task: TaskDefinition, format: LaMPFormat
  ) -> [String] {
    var problems: [String] = []
    var unnamed = 0
    var inThisProfile: Set<String> = []
    items.reserveCapacity(items.count + rows.count)
    for (index, row) in rows.enumerated() {
      guard let members = row.object else {
        problems.append("item \(index + 1) is \(row.kindName), expected an object; left out")
        continue
      }
      var name = "item \(index + 1)"
      let id: String
      switch members["id"] {
      case .string(let text)? where !text.isEmpty: id = text
      case .number?, .integer?: id = members["id"]?.plainText ?? ""
      default:
        unnamed += 1
        id = "item-\(index + 1)"
      }
      name += " (id \(id))"
      if !inThisProfile.insert(id).inserted {
        problems.append("\(name): this id stands in the profile already; left out")
        continue
      }
      var values: [String: JSONValue] = [:]
      for field in task.fields {
        guard let keys = format.history[field.name] else { continue }
        values[field.name] = keys.lazy.compactMap { members[$0] }.first { !$0.isNull }
      }
      let output = format.answerKeys.lazy.compactMap { members[$0] }.first { !$0.isNull }
      let known = positions[id]
      if case .some(nil) = known { continue }
      for problem in task.cutLongFields(&values) where known == nil {
        problems.append("\(name): \(problem)")
      }
      guard let output else {
        let keys = format.answerKeys.joined(separator: " or ")
        problems.append("\(name) has no \(keys); left out")
        positions[id] = .some(nil)
        continue
      }
      do {
        let content =
          if let choices = format.choices {
            try task.chosen(output, among: choices, input: values)
          } else {
            try task.validate(input: .object(values), output: output)
          }
        let date = members["date"].flatMap(LaMPDate.init)
        if let date = members["date"], !date.isNull, LaMPDate(date) == nil, known == nil {
          problems.append("\(name): the date \(date.canonical) cannot be read; taken as undated")
        }
        let item = HistoryItem(
          eventID: id, occurredAt: date?.date ?? .distantPast, input: content.input,
          output: content.output ?? "")
        if case .some(.some(let position)) = known {
          if items[position].input != item.input || items[position].output != item.output {
            problems.append("\(name) differs from an earlier item of this id; the first counts")
          }
          continue
        }
        positions[id] = items.count
        items.append(item)
        dates.append(date)
      } catch {
        problems.append("\(name): \(error); left out")
        positions[id] = .some(nil)
      }
    }
    if unnamed > 0 {
      problems.append(
        "\(unnamed) of \(rows.count) items have no id; they are called by their place")
    }
    return problems
  }

  /// Takes out the items with this input and output, as far as the input tells. Returns their ids.
  mutating func remove(input: [String: JSONValue], output: String) -> [String] {
    let found = items.indices.filter { index in
      items[index].output == output && !input.isEmpty
        && input.allSatisfy { items[index].input[$0.key] == $0.value }
    }
    let ids = found.map { items[$0].eventID }
    for index in found.reversed() {
      items.remove(at: index)
      dates.remove(at: index)
    }
    return ids
  }

  /// Turns items that hold only what was chosen into questions with all choices, oldest first. The
  /// other choices are drawn from earlier items, so an item before which there are too few is left
  /// out.
  func asChoices(_ choices: LaMPChoices, task: TaskDefinition) -> [HistoryItem] {
    var earlier: [String] = []
    var made: [HistoryItem] = []
    for item in oldestFirst {
      let own = item.output
      var others = earlier.filter { $0 != own }
      if others.count == earlier.count { earlier.append(own) }
      guard others.count >= choices.options.count - 1 else { continue }
      // The same file always gives the same questions.
      var generator = SplitMix64(seed: TextForm.hash(item.eventID))
      others.shuffle(using: &generator)
      let place = Int.random(in: 0..<choices.options.count, using: &generator)
      var texts = others.prefix(choices.options.count - 1)[...]
      texts.insert(own, at: place)
      var item = item
      for (field, text) in zip(choices.options, texts) { item.input[field] = .string(text) }
      item.output = task.labels[place]
      made.append(item)
    }
    return made
  }

  /// All items, oldest first. An undated item keeps its place after the item before it in the file;
  /// of equal dates the file's order counts. Without any date an item's time is its place in
  /// seconds, which tells the order and nothing else.
  var oldestFirst: [HistoryItem] {
    guard var last = dates.lazy.compactMap(\.?.date).first else {
      return items.enumerated().map { index, item in
        var item = item
        item.occurredAt = Date(timeIntervalSince1970: Double(index))
        return item
      }
    }
    let dated = zip(items, dates).map { item, date in
      var item = item
      last = date?.date ?? last
      item.occurredAt = last
      return item
    }
    // Swift's sort is stable.
    return dated.sorted { $0.occurredAt < $1.occurredAt }
  }
}

extension TaskDefinition {
  /// Checks an item that holds what a user chose, with that text in place of every choice.
  func chosen(
    _ output: JSONValue, among choices: LaMPChoices, input: [String: JSONValue]
  ) throws -> ValidatedContent {
    var whole = input
    for field in choices.options { whole[field] = output }
    let content = try validate(input: .object(whole), output: .string(labels[0]))
    let kept = content.input.filter { !choices.options.contains($0.key) }
    return ValidatedContent(input: kept, output: TextForm.collapsed(output.plainText ?? ""))
  }

  /// Shortens texts that are longer than their fields take, so that a long row is not lost. Returns
  /// what was cut.
  func cutLongFields(_ input: inout [String: JSONValue]) -> [String] {
    var problems: [String] = []
    for field in fields {
      guard case .string(let text) = input[field.name], text.utf8.count > field.maximumBytes else {
        continue
      }
      input[field.name] = .string(TextForm.start(of: text, bytes: field.maximumBytes))
      problems.append(
        "the field \(field.name) has \(text.utf8.count) bytes, cut to \(field.maximumBytes)")
    }
    return problems
  }
}

/// A date of a LaMP file: `2020-04-14`, with or without a time and a zone, a year or a year and
/// month alone, or Unix seconds. Times without a zone are UTC.
struct LaMPDate {
  let date: Date

  private init(seconds: Double) { date = Date(timeIntervalSince1970: seconds) }

  init?(_ value: JSONValue) {
    switch value {
    case .number(let number): self.init(number: number)
    case .string(let text):
      if let number = Double(text), !text.contains("-") {
        self.init(number: number)
      } else {
        self.init(text: text)
      }
    default: return nil
    }
  }

  private init?(number: Double) {
    guard number.isFinite, abs(number) < 1e14 else { return nil }
    if (1...9999).contains(number), number == number.rounded() {
      self.init(year: Int(number), month: 1, day: 1, seconds: 0)
    } else if abs(number) > 1e11 {
      self.init(seconds: number / 1000)
    } else {
      self.init(seconds: number)
    }
  }

  private init?(text: String) {
    var rest = Array(text.utf8)[...]
    while rest.last == 0x20 { rest.removeLast() }
    func digits(_ count: Int) -> Int? {
      guard rest.count >= count else { return nil }
      var value = 0
      for byte in rest.prefix(count) {
        guard (0x30..<0x3A).contains(byte) else { return nil }
        value = value * 10 + Int(byte - 0x30)
      }
      rest = rest.dropFirst(count)
      return value
    }
    func skip(_ characters: String) -> Bool {
      guard let byte = rest.first, characters.utf8.contains(byte) else { return false }
      rest = rest.dropFirst()
      return true
    }
    guard let year = digits(4) else { return nil }
    var (month, day, seconds) = (1, 1, 0.0)
    if skip("-/") {
      guard let value = digits(2) else { return nil }
      month = value
      if skip("-/") {
        guard let value = digits(2) else { return nil }
        day = value
        if skip("T ") {
          guard let hour = digits(2), hour < 24, skip(":"), let minute = digits(2), minute < 60
          else { return nil }
          seconds = Double(hour * 3600 + minute * 60)
          if skip(":") {
            guard let second = digits(2), second <= 60 else { return nil }
            seconds += Double(second)
            if skip(".,") {
              var unit = 0.1
              while let digit = digits(1) {
                seconds += Double(digit) * unit
                unit /= 10
              }
            }
          }
          if !skip("Zz"), let sign = rest.first, skip("+-") {
            guard let hours = digits(2) else { return nil }
            _ = skip(":")
            let offset = Double(hours * 3600 + (digits(2) ?? 0) * 60)
            seconds -= sign == UInt8(ascii: "+") ? offset : -offset
          }
        }
      }
    }
    guard rest.isEmpty else { return nil }
    self.init(year: year, month: month, day: day, seconds: seconds)
  }

  /// Days since 1970 of a date of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level
  /// Date Algorithms").
  private init?(year: Int, month: Int, day: Int, seconds: Double) {
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard (1...12).contains(month), (1...lengths[month - 1]).contains(day) else { return nil }
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    self.init(seconds: Double(era * 146_097 + dayOfEra - 719_468) * 86_400 + seconds)
  }
}
