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
    .target(name: "RandomNumbers"),
    .target(name: "JSON"),

    .target(name: "LinearAlgebra", dependencies: ["RandomNumbers", "CKernels", "COpenBLAS"]),
    .target(
      name: "LanguageModel",
      dependencies: ["JSON", "RandomNumbers", "LinearAlgebra", "CKernels", "Cryptography", "CCurl"]),
    .target(
      name: "FineTuning",
      dependencies: [
        "JSON", "RandomNumbers", "LanguageModel", "LinearAlgebra", "CKernels", "ErrorText",
      ]),
    .target(
      name: "Personalization", dependencies: ["JSON", "RandomNumbers", "YAML"],
      resources: [.embedInCode("Resources/tasks.yaml")]),
    .target(name: "ShiftDetection", dependencies: ["RandomNumbers"]),
    .target(
      name: "EvaluationReport",
      dependencies: ["JSON", "Personalization", "TextTables", "ErrorText"]),
    .target(name: "KafkaClient", dependencies: ["CRDKafka", "StructuredLogging"]),
    .target(name: "PostgresClient", dependencies: ["CLibPQ", "StructuredLogging"]),
    .target(name: "DevelopmentServers", dependencies: ["StructuredLogging"]),
    .target(
      name: "Storage",
      dependencies: [
        "ShiftDetection", "JSON", "PostgresClient", "Personalization", "Cryptography",
      ],
      resources: [
        .embedInCode("Migrations/0001_initial.sql"),
        .embedInCode("Migrations/0002_logs_and_erasures.sql"),
        .embedInCode("Migrations/0003_keyed_receipts.sql"),
      ]),
    .target(
      name: "OPPU",
      dependencies: [
        "JSON", "RandomNumbers", "LanguageModel", "FineTuning", "Personalization", "ShiftDetection",
        "Cryptography", "ErrorText",
      ]),
    .target(
      name: "Evaluation",
      dependencies: [
        "JSON", "RandomNumbers", "OPPU", "EvaluationReport", "LanguageModel", "FineTuning",
        "Personalization", "ShiftDetection", "Cryptography", "ErrorText",
      ]),
    .target(
      name: "Worker",
      dependencies: [
        "JSON", "OPPU", "LanguageModel", "FineTuning", "LinearAlgebra", "Personalization",
        "ShiftDetection", "KafkaClient", "PostgresClient", "Storage", "Cryptography", "Services",
        "StructuredLogging",
      ]),
    .executableTarget(
      name: "oppu-worker",
      dependencies: [
        "ShiftDetection", "JSON", "Worker", "DevelopmentServers", "Evaluation", "EvaluationReport",
        "FineTuning", "KafkaClient", "LanguageModel", "LinearAlgebra", "OPPU", "Personalization",
        "PostgresClient", "Storage", "ArgumentParsing", "Cryptography", "StructuredLogging",
        "TextTables", "YAML", "ErrorText",
      ]),

    // The guided tour of scripts/demo: an outside client of the real binary.
    .executableTarget(
      name: "oppu-demo",
      dependencies: [
        "ShiftDetection", "JSON", "KafkaClient", "PostgresClient", "Personalization",
        "DevelopmentServers", "ArgumentParsing", "StructuredLogging", "TextTables",
      ]),

    // What only benchmarks compare with, and the simulation that made the table of thresholds.
    .target(
      name: "ShiftBaselines", dependencies: ["RandomNumbers", "ShiftDetection"],
      path: "Benchmarks/ShiftBaselines"),

    // What scripts/bench runs.
    .executableTarget(
      name: "oppu-bench",
      dependencies: [
        "JSON", "ShiftBaselines", "RandomNumbers", "FineTuning", "LanguageModel", "LinearAlgebra",
        "Worker", "DevelopmentServers", "KafkaClient", "PostgresClient", "Storage",
        "Personalization", "ShiftDetection", "ArgumentParsing", "StructuredLogging", "TextTables",
      ], path: "Benchmarks/oppu-bench"),

    // What the tests of several modules need.
    .target(name: "TestSupport", dependencies: ["JSON"], path: "Tests/TestSupport"),
    // Keeps the house in order: reads the project's own files.
    .testTarget(name: "TidyTests", dependencies: ["TestSupport"]),
    .testTarget(
      name: "ArgumentParsingTests",
      dependencies: ["TestSupport", "RandomNumbers", "ArgumentParsing"]),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "RandomNumbers"]),
    .testTarget(name: "StructuredLoggingTests", dependencies: ["StructuredLogging"]),
    .testTarget(name: "ServicesTests", dependencies: ["Services"]),
    .testTarget(
      name: "CryptographyTests", dependencies: ["RandomNumbers", "Cryptography", "COpenSSL"]),
    .testTarget(
      name: "YAMLTests", dependencies: ["RandomNumbers", "YAML"], resources: [.copy("Fixtures")]),
    .testTarget(name: "TextTablesTests", dependencies: ["TextTables"]),
    .testTarget(
      name: "LinearAlgebraTests", dependencies: ["RandomNumbers", "LinearAlgebra", "CKernels"]),
    .testTarget(
      name: "LanguageModelTests",
      dependencies: [
        "TestSupport", "JSON", "RandomNumbers", "LanguageModel", "LinearAlgebra", "Cryptography",
      ],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "FineTuningTests",
      dependencies: [
        "TestSupport", "RandomNumbers", "FineTuning", "LanguageModel", "LinearAlgebra",
      ],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "PersonalizationTests",
      dependencies: ["TestSupport", "JSON", "RandomNumbers", "Personalization"]),
    .testTarget(
      name: "ShiftDetectionTests",
      dependencies: ["TestSupport", "ShiftBaselines", "RandomNumbers", "ShiftDetection"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "EvaluationReportTests", dependencies: ["JSON", "EvaluationReport", "Personalization"]),
    .testTarget(
      name: "KafkaClientTests",
      dependencies: [
        "TestSupport", "KafkaClient", "DevelopmentServers", "StructuredLogging", "CRDKafka",
      ]),
    .testTarget(
      name: "PostgresClientTests",
      dependencies: ["TestSupport", "PostgresClient", "DevelopmentServers", "StructuredLogging"]),
    .testTarget(
      name: "EvaluationTests",
      dependencies: [
        "TestSupport", "JSON", "RandomNumbers", "Evaluation", "EvaluationReport", "FineTuning",
        "LanguageModel", "OPPU", "Personalization",
      ]),
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "TestSupport", "JSON", "RandomNumbers", "oppu-worker", "ArgumentParsing", "FineTuning",
        "Personalization",
      ]),
    .testTarget(
      name: "WorkerTests",
      dependencies: [
        "TestSupport", "JSON", "RandomNumbers", "Worker", "KafkaClient", "Personalization",
        "Storage", "Cryptography", "StructuredLogging", "YAML", "CRDKafka", "PostgresClient",
      ], exclude: ["Fixtures"]),
    .testTarget(
      name: "IntegrationTests",
      dependencies: [
        "ShiftDetection", "TestSupport", "JSON", "RandomNumbers", "Worker", "Evaluation",
        "DevelopmentServers", "KafkaClient", "PostgresClient", "Storage", "OPPU", "FineTuning",
        "LanguageModel", "LinearAlgebra", "Personalization", "Cryptography", "StructuredLogging",
        "YAML", "CRDKafka",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
