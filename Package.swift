// swift-tools-version: 6.1
import PackageDescription

// Modules point one way, top to bottom; docs/architecture.md says what each is for.

let package = Package(
  name: "oppu-worker",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "oppu-worker", targets: ["oppu-worker"]),
    .library(name: "LanguageModel", targets: ["LanguageModel"]),
    .library(name: "FineTuning", targets: ["FineTuning"]),
  ],
  targets: [
    .systemLibrary(name: "CRDKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CLibYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CCurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "CWideCharacters"),
    .target(name: "CKernels"),

    // What no distribution carries for Swift, or a thin face on a C library that it does carry. These know
    // nothing of the project and nothing of each other.
    .target(name: "ArgumentParsing"),
    .target(name: "StructuredLogging"),
    .target(name: "Services"),
    .target(name: "Cryptography", dependencies: ["COpenSSL"]),
    .target(name: "YAML", dependencies: ["CLibYAML"]),
    .target(name: "TextTables", dependencies: ["CWideCharacters"]),
    .target(name: "ErrorText"),

    .target(name: "LinearAlgebra", dependencies: ["CKernels", "COpenBLAS"]),
    .target(
      name: "LanguageModel", dependencies: ["LinearAlgebra", "CKernels", "Cryptography", "CCurl"]),
    .target(
      name: "FineTuning",
      dependencies: ["LanguageModel", "LinearAlgebra", "CKernels", "ErrorText"]),
    .target(
      name: "Personalization", dependencies: ["YAML", "ErrorText"],
      resources: [.embedInCode("Resources/tasks.yaml")]),
    .target(name: "ShiftDetection"),
    .target(
      name: "EvaluationReport", dependencies: ["Personalization", "TextTables", "ErrorText"]),
    .target(name: "KafkaClient", dependencies: ["CRDKafka", "StructuredLogging"]),
    .target(name: "PostgresClient", dependencies: ["CLibPQ", "StructuredLogging"]),
    .target(name: "DevelopmentServers", dependencies: ["StructuredLogging"]),
    .target(
      name: "Storage",
      dependencies: ["PostgresClient", "Personalization", "Cryptography"],
      resources: [
        .embedInCode("Migrations/0001_initial.sql"),
        .embedInCode("Migrations/0002_logs_and_erasures.sql"),
        .embedInCode("Migrations/0003_keyed_receipts.sql"),
      ]),
    .target(
      name: "OPPU",
      dependencies: [
        "LanguageModel", "FineTuning", "LinearAlgebra", "Personalization", "ShiftDetection",
        "Cryptography", "ErrorText",
      ]),
    .target(
      name: "Evaluation",
      dependencies: [
        "OPPU", "EvaluationReport", "LanguageModel", "FineTuning", "Personalization",
        "ShiftDetection", "Cryptography", "ErrorText",
      ]),
    .target(
      name: "Worker",
      dependencies: [
        "OPPU", "LanguageModel", "FineTuning", "LinearAlgebra", "Personalization",
        "ShiftDetection", "KafkaClient", "PostgresClient", "Storage", "Cryptography",
        "Services", "StructuredLogging",
      ]),
    .executableTarget(
      name: "oppu-worker",
      dependencies: [
        "Worker", "DevelopmentServers", "Evaluation", "EvaluationReport", "FineTuning",
        "KafkaClient", "LanguageModel", "LinearAlgebra", "OPPU", "Personalization",
        "PostgresClient", "Storage", "ArgumentParsing", "Cryptography",
        "StructuredLogging", "TextTables", "YAML", "ErrorText",
      ]),

    // The guided tour of scripts/demo: an outside client of the real binary.
    .executableTarget(
      name: "oppu-demo",
      dependencies: [
        "KafkaClient", "PostgresClient", "Personalization", "DevelopmentServers",
        "ArgumentParsing", "StructuredLogging", "TextTables",
      ]),

    // What scripts/bench runs.
    .executableTarget(
      name: "oppu-bench",
      dependencies: [
        "FineTuning", "LanguageModel", "LinearAlgebra", "Worker", "DevelopmentServers",
        "KafkaClient", "PostgresClient", "Storage", "Personalization", "ShiftDetection",
        "ArgumentParsing", "StructuredLogging", "TextTables",
      ], path: "Benchmarks/oppu-bench"),

    .testTarget(name: "ArgumentParsingTests", dependencies: ["ArgumentParsing"]),
    .testTarget(name: "StructuredLoggingTests", dependencies: ["StructuredLogging"]),
    .testTarget(name: "ServicesTests", dependencies: ["Services"]),
    .testTarget(name: "CryptographyTests", dependencies: ["Cryptography"]),
    .testTarget(name: "YAMLTests", dependencies: ["YAML"], resources: [.copy("Fixtures")]),
    .testTarget(name: "TextTablesTests", dependencies: ["TextTables"]),
    .testTarget(name: "LinearAlgebraTests", dependencies: ["LinearAlgebra", "CKernels"]),
    .testTarget(
      name: "LanguageModelTests", dependencies: ["LanguageModel", "LinearAlgebra", "Cryptography"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "FineTuningTests", dependencies: ["FineTuning", "LanguageModel", "LinearAlgebra"],
      resources: [.copy("Fixtures")]),
    .testTarget(name: "PersonalizationTests", dependencies: ["Personalization"]),
    .testTarget(
      name: "ShiftDetectionTests", dependencies: ["ShiftDetection"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "EvaluationReportTests", dependencies: ["EvaluationReport", "Personalization"]),
    .testTarget(
      name: "KafkaClientTests",
      dependencies: ["KafkaClient", "DevelopmentServers", "StructuredLogging", "CRDKafka"]),
    .testTarget(
      name: "PostgresClientTests",
      dependencies: ["PostgresClient", "DevelopmentServers", "StructuredLogging"]),
    .testTarget(
      name: "EvaluationTests",
      dependencies: [
        "Evaluation", "EvaluationReport", "FineTuning", "LanguageModel", "OPPU",
        "Personalization", "ShiftDetection",
      ]),
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "oppu-worker", "ArgumentParsing", "FineTuning", "LinearAlgebra", "Personalization",
      ]),
    .testTarget(
      name: "WorkerTests",
      dependencies: [
        "Worker", "Evaluation", "KafkaClient", "Personalization", "ShiftDetection", "Storage",
        "Cryptography", "LinearAlgebra", "StructuredLogging", "YAML", "CRDKafka",
      ], exclude: ["Fixtures"]),
    .testTarget(
      name: "IntegrationTests",
      dependencies: [
        "Worker", "Evaluation", "DevelopmentServers", "KafkaClient", "PostgresClient", "Storage",
        "OPPU", "FineTuning", "LanguageModel", "LinearAlgebra", "Personalization", "Cryptography",
        "StructuredLogging", "YAML", "CRDKafka",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
