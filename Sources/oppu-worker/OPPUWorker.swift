// The command line: one binary for workers, operators and people who train models.

import ArgumentParsing
import KafkaClient

@main
struct OPPUWorker: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "oppu-worker",
    abstract: "Gives a language model a memory of each user.",
    discussion: """
      Behaviour events come from Kafka into PostgreSQL; when a user's behaviour shifts, that user's own \
      adapter is fine-tuned and, if it is proven better, served to that user's requests.

      A first look:      scripts/demo
      A private set-up:  oppu-worker dev
      In production:     oppu-worker run --config worker.yaml
      For operators:     oppu-worker admin status
      On plain files:    oppu-worker model score MODEL --text "…"
                         oppu-worker finetune --model MODEL --data FILE.jsonl --out FOLDER

      Data goes to stdout, logs to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 a check failed.
      """,
    version: "0.1.0 (librdkafka \(KafkaLibrary.current))",
    subcommands: [
      Run.self, Dev.self, Admin.self, Model.self, Finetune.self, Adapt.self, Evaluate.self,
      Search.self, StreamCommand.self,
    ])
}
