// How long a training that failed waits for its next attempt.

import Testing

@testable import Worker

@Suite struct RetryTests {
  @Test("pauses between attempts double, with jitter, up to a limit")
  func pauses() {
    #expect(TrainerService.pause(afterAttempt: 1, random: 0) == .seconds(10))
    #expect(TrainerService.pause(afterAttempt: 1, random: 0.5) == .seconds(20))
    #expect(TrainerService.pause(afterAttempt: 2, random: 0.5) == .seconds(40))
    #expect(TrainerService.pause(afterAttempt: 50, random: 0.5) == .seconds(640))
  }
}
