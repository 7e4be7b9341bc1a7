// A way to the broker on which bytes of messages get damaged.

import DevelopmentServers
import Synchronization

/// A proxy in front of the development broker that changes a byte of some of its answers.
final class FetchProxy: Sendable {
  private let proxy: LoopbackProxy
  private let damage: Damage

  /// - Parameters:
  ///   - marker: the first byte of its first occurrence in an answer is changed.
  ///   - times: in that many answers.
  init(to target: Int, damaging marker: String, times: Int) throws {
    let damage = Damage(marker, times: times)
    self.damage = damage
    proxy = try LoopbackProxy(to: target, isKafka: true) { damage }
  }

  var port: Int { proxy.port }
  var damaged: Int { damage.state.withLock { $0.done } }

  func stop() { proxy.stop() }

  private final class Damage: LoopbackObserver {
    private let marker: [UInt8]
    /// How many answers that hold the marker are still to be damaged, and how many were.
    let state: Mutex<(left: Int, done: Int)>

    init(_ marker: String, times: Int) {
      self.marker = Array(marker.utf8)
      state = Mutex((left: times, done: 0))
    }

    func fromServer(_ bytes: [UInt8]) -> [UInt8]? {
      guard let found = bytes.firstRange(of: marker) else { return bytes }
      let damages = state.withLock { state in
        guard state.left > 0 else { return false }
        state.left -= 1
        state.done += 1
        return true
      }
      var bytes = bytes
      if damages { bytes[found.lowerBound] ^= 0x01 }
      return bytes
    }
  }
}
