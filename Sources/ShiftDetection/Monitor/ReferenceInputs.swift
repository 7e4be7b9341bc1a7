// The first inputs of a user and what was made of them: how new a text is, and how well outputs fit inputs.

/// Up to 32 events, each as 64 bits of content and a number for its output.
///
/// From them come two numbers for every event. *Novelty*: how little its input has in common with the
/// others. *Fit*: how far its output is from those given to similar inputs; it shows a change that the
/// outputs alone do not: the same ratings, given to other films. While there are at most 32 events each
/// one is compared with all others, so that without a change no order of the numbers is likelier than
/// another; later events are compared with these 32.
struct ReferenceInputs: Sendable, Hashable {
  static let capacity = NumberDetector.reference

  struct Event: Sendable, Hashable {
    var signature: UInt64
    /// Label number or rating; nil where the output is neither.
    var output: Output?
  }

  enum Output: Sendable, Hashable {
    case label(UInt8)
    case rating(CompactNumber)
  }

  private(set) var events: [Event] = []
  var isFull: Bool { events.count == Self.capacity }

  mutating func append(_ event: Event) {
    if !isFull { events.append(event) }
  }

  /// Bits of words that more than half of the events have tell nothing apart.
  private var telling: UInt64 {
    var common: UInt64 = 0
    for bit in 0..<64 {
      var holders = 0
      for event in events { holders += Int(event.signature >> UInt64(bit) & 1) }
      if 2 * holders > events.count { common |= 1 << UInt64(bit) }
    }
    return ~common
  }

  /// Numbers of every event among the others; outputs of another kind have no fit.
  func measures() -> (novelty: [Double], fit: [Double]) {
    let mask = telling
    var novelty: [Double] = []
    var fit: [Double] = []
    for index in events.indices {
      let (new, apart) = measure(events[index], except: index, mask: mask)
      novelty.append(new)
      if let apart { fit.append(apart) }
    }
    return (novelty, fit)
  }

  /// The numbers of a later event.
  func measure(_ event: Event) -> (novelty: Double, fit: Double?) {
    measure(event, except: nil, mask: telling)
  }

  private func measure(
    _ event: Event, except: Int?, mask: UInt64
  ) -> (novelty: Double, fit: Double?) {
    let own = event.signature & mask
    let size = max(1, own.nonzeroBitCount)
    var similarity = 0.0
    var weights = 0.0
    var same = 0.0
    var sum = 0.0
    var plain = (count: 0.0, same: 0.0, sum: 0.0)
    for (index, other) in events.enumerated() where index != except {
      let its = other.signature & mask
      let shared = (own & its).nonzeroBitCount
      let squared = Double(shared * shared) / Double(size * max(1, its.nonzeroBitCount))
      similarity += squared.squareRoot()
      let agreement: Double
      var rating = 0.0
      switch (event.output, other.output) {
      case (.label(let mine), .label(let label)): agreement = mine == label ? 1 : 0
      case (.rating, .rating(let number)):
        agreement = 0
        rating = number.value
      default: continue
      }
      // Squared: the likest count most.
      let weight = squared
      weights += weight
      same += weight * agreement
      sum += weight * rating
      plain = (plain.count + 1, plain.same + agreement, plain.sum + rating)
    }
    let others = Double(max(1, events.count - (except == nil ? 0 : 1)))
    var fit: Double?
    // Where nothing is alike, all count the same.
    let (count, agreed, total) = weights > 0 ? (weights, same, sum) : plain
    if count > 0 {
      switch event.output {
      case .label: fit = 1 - agreed / count
      case .rating(let number): fit = abs(number.value - total / count)
      case nil: break
      }
    } else if event.output != nil {
      fit = 0
    }
    return (1 - similarity / others, fit)
  }

  func write(to writer: inout StateWriter) {
    writer.unsigned(events.count)
    for event in events {
      writer.fixed(event.signature)
      switch event.output {
      case .label(let label): writer.byte(label)
      case .rating(let number):
        writer.byte(Self.isRating)
        writer.fixed(number.bits)
      case nil: writer.byte(Self.isNothing)
      }
    }
  }

  private static let isRating: UInt8 = 254
  private static let isNothing: UInt8 = 255

  init() {}

  init(reading reader: inout StateReader) throws {
    for _ in 0..<(try reader.unsigned(upTo: Self.capacity)) {
      let signature = try reader.fixed(UInt64.self)
      let output: Output? =
        switch try reader.byte() {
        case Self.isRating: .rating(CompactNumber(bits: try reader.fixed(UInt16.self)))
        case Self.isNothing: nil
        case let label: .label(label)
        }
      events.append(Event(signature: signature, output: output))
    }
  }
}
