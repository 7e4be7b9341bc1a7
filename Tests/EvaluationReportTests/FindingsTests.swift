import Testing

@testable import EvaluationReport

@Suite struct FindingsTests {
  @Test("an interval above zero is a win, one around zero is none, one below is a loss")
  func outcomes() {
    func outcome(_ low: Double, _ high: Double) -> Advantage.Outcome? {
      Findings(
        Samples.pair(
          Samples.accuracy, prompt: 0.5, oppu: 0.6, difference: (low + high) / 2, low: low,
          high: high)
      ).claim?.outcome
    }
    #expect(outcome(0.01, 0.2) == .better)
    #expect(outcome(-0.01, 0.2) == .undecided)
    #expect(outcome(0, 0.2) == .undecided)
    #expect(outcome(-0.2, -0.01) == .worse)
    #expect(outcome(.nan, 0.2) == .unknown)
  }

  @Test("a lower error is a win, and the sentence says by how much")
  func errors() {
    let findings = Findings(
      Samples.pair(
        Samples.error, prompt: 1.53, oppu: 0.71, difference: -0.82, low: -0.9, high: -0.73))
    #expect(
      findings.claim
        == Advantage(
          .init(a: "", b: "", metric: "", difference: 0.82, low: 0.73, high: 0.9),
          higherIsBetter: true, isReversed: false, queries: 100))
    #expect(
      findings.sentence == "OPPU beats the best prompt-based arm, RAG, k 4: MAE 0.71 against 1.53, "
        + "better by 0.82 (95 % interval 0.73 to 0.90).")
  }

  @Test("a comparison counts the other way round too")
  func reversed() throws {
    let majority = try #require(Findings(Samples.news).arms.first)
    let findings = Findings(Samples.news)
    let oppu = try #require(findings.bestPersonal)
    let advantage = try #require(findings.advantage(of: oppu, over: majority, Samples.accuracy))
    #expect(advantage.value == 0.05)
    #expect(advantage.low == -0.02 && advantage.high == 0.1)
    #expect(
      findings.words.hasSuffix(
        "User's commonest, which needs no model, stands at 0.660: the difference, +0.050 "
          + "(95 % interval −0.020 to +0.100), is not certain."))
  }

  @Test("one query says nothing, whatever its interval")
  func oneQuery() {
    let findings = Findings(
      Samples.pair(
        Samples.accuracy, prompt: 0, oppu: 1, difference: 1, low: 1, high: 1, queries: 1))
    #expect(findings.claim?.outcome == .unknown)
    #expect(findings.sentence.hasPrefix("Nothing can be said"))
  }

  @Test("the best arms are those of the first metric, and the task adapter is no prompt-based arm")
  func bestArms() {
    let findings = Findings(Samples.news)
    #expect(findings.bestPrompt?.name == "rag4")
    #expect(findings.bestPersonal?.name == "oppu")
    #expect(findings.best(in: Samples.accuracy) == ["oppu"])
    #expect(
      Findings(Samples.pair(Samples.error, prompt: 1, oppu: 2, difference: 1, low: 0, high: 2))
        .best(in: Samples.error) == ["rag4"])
  }

  @Test("the summary counts wins, ties, losses and what cannot be said")
  func headline() {
    func pair(_ low: Double, _ high: Double) -> EvaluationResults {
      Samples.pair(
        Samples.accuracy, prompt: 0.5, oppu: 0.6, difference: (low + high) / 2, low: low,
        high: high)
    }
    let (win, tie, loss) = (pair(0.1, 0.2), pair(-0.1, 0.2), pair(-0.2, -0.1))
    #expect(
      HTMLReport([win, win]).headline
        == "A user’s own adapter (OPPU) beats the best prompt-based arm on all 2 tasks.")
    #expect(
      HTMLReport([win, tie, Samples.empty]).headline
        == "A user’s own adapter (OPPU) beats the best prompt-based arm on 1 of 3 tasks. "
        + "On 1 the data cannot tell them apart. About 1 nothing can be said. "
        + "On none is it certainly worse.")
    #expect(HTMLReport([Samples.empty, Samples.empty]).headline.hasPrefix("Nothing can be said"))
    #expect(HTMLReport([loss, win]).headline.hasSuffix("On 1 it does worse."))
    #expect(HTMLReport([tie, loss]).headline.contains("on none of 2 tasks"))
  }

  @Test(
    "numbers have three significant digits",
    arguments: [
      ([0.71, 0.0312], "0.710"), ([1.0, 0.5], "1.000"), ([2.153], "2.15"), ([0.0312], "0.0312"),
      ([12.34], "12.3"), ([1234.5], "1234"), ([12345.6], "12,346"), ([-0.5], "−0.500"),
      ([.nan], "–"), ([-0.00001, 0.5], "0.000"),
    ] as [([Double], String)])
  func numbers(values: [Double], text: String) {
    #expect(NumberText.plain(values[0], decimals: NumberText.decimals(values)) == text)
  }

  @Test("durations and shares read as people write them")
  func durations() {
    #expect(NumberText.seconds(0.417) == "0.42 s")
    #expect(NumberText.seconds(12.34) == "12.3 s")
    #expect(NumberText.seconds(59.97) == "1 min")
    #expect(NumberText.seconds(200) == "3 min 20 s")
    #expect(NumberText.seconds(7_500) == "2 h 05 min")
    #expect(NumberText.seconds(.infinity) == "–")
    #expect(NumberText.percent(0.9678) == "96.8 %")
    #expect(NumberText.percent(0.16) == "16 %")
    #expect(NumberText.percent(1) == "100 %")
  }
}
