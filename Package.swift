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
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-crypto", "3.12.3"..<"5.0.0"),
    .package(
      url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: ["YAML"]),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.3.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    .package(url: "https://github.com/ordo-one/TextTable", from: "0.0.2"),
  ],
  targets: [
    .systemLibrary(name: "CRDKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
    .target(name: "CKernels"),

    .target(name: "LinearAlgebra", dependencies: ["CKernels", "COpenBLAS"]),
    .target(
      name: "LanguageModel",
      dependencies: [
        "LinearAlgebra", "CKernels", .product(name: "Crypto", package: "swift-crypto"),
      ]),
    .target(name: "FineTuning", dependencies: ["LanguageModel", "LinearAlgebra", "CKernels"]),
    .target(
      name: "Personalization", dependencies: [.product(name: "Yams", package: "Yams")],
      resources: [.embedInCode("Resources/tasks.yaml")]),
    .target(name: "ShiftDetection"),
    .target(
      name: "EvaluationReport",
      dependencies: ["Personalization", .product(name: "TextTable", package: "TextTable")]),
    .target(
      name: "KafkaClient",
      dependencies: ["CRDKafka", .product(name: "Logging", package: "swift-log")]),
    .target(
      name: "PostgresClient",
      dependencies: ["CLibPQ", .product(name: "Logging", package: "swift-log")]),
    .target(
      name: "DevelopmentServers", dependencies: [.product(name: "Logging", package: "swift-log")]),
    .target(
      name: "Storage",
      dependencies: [
        "PostgresClient", "Personalization", .product(name: "Crypto", package: "swift-crypto"),
      ],
      resources: [.embedInCode("Migrations/0001_initial.sql")]),
    .target(
      name: "OPPU",
      dependencies: [
        "LanguageModel", "FineTuning", "LinearAlgebra", "Personalization",
        .product(name: "Crypto", package: "swift-crypto"),
      ]),
    .target(
      name: "Evaluation",
      dependencies: [
        "OPPU", "EvaluationReport", "LanguageModel", "FineTuning", "Personalization",
        "ShiftDetection", .product(name: "Crypto", package: "swift-crypto"),
      ]),
    .target(
      name: "Worker",
      dependencies: [
        "OPPU", "LanguageModel", "FineTuning", "LinearAlgebra", "Personalization",
        "ShiftDetection", "KafkaClient", "PostgresClient", "Storage",
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "Collections", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
      ]),
    .executableTarget(
      name: "oppu-worker",
      dependencies: [
        "Worker", "DevelopmentServers", "Evaluation", "EvaluationReport", "FineTuning",
        "KafkaClient", "LanguageModel", "LinearAlgebra", "OPPU", "Personalization",
        "PostgresClient", "Storage", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Configuration", package: "swift-configuration"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "TextTable", package: "TextTable"),
        .product(name: "Yams", package: "Yams"),
      ]),

    // The guided tour of scripts/demo: an outside client of the real binary.
    .executableTarget(
      name: "oppu-demo",
      dependencies: [
        "KafkaClient", "PostgresClient", "Personalization", "DevelopmentServers",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "TextTable", package: "TextTable"),
      ]),

    // What scripts/bench runs.
    .executableTarget(
      name: "oppu-bench",
      dependencies: [
        "FineTuning", "LanguageModel", "LinearAlgebra", "Worker", "DevelopmentServers",
        "KafkaClient", "PostgresClient", "Storage", "Personalization", "ShiftDetection",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "TextTable", package: "TextTable"),
      ], path: "Benchmarks/oppu-bench"),

    .testTarget(name: "LinearAlgebraTests", dependencies: ["LinearAlgebra", "CKernels"]),
    .testTarget(
      name: "LanguageModelTests", dependencies: ["LanguageModel"], resources: [.copy("Fixtures")]),
    .testTarget(
      name: "FineTuningTests", dependencies: ["FineTuning"], resources: [.copy("Fixtures")]),
    .testTarget(name: "PersonalizationTests", dependencies: ["Personalization"]),
    .testTarget(
      name: "ShiftDetectionTests", dependencies: ["ShiftDetection"],
      resources: [.copy("Fixtures")]),
    .testTarget(
      name: "EvaluationReportTests", dependencies: ["EvaluationReport", "Personalization"]),
    .testTarget(name: "KafkaClientTests", dependencies: ["KafkaClient", "DevelopmentServers"]),
    .testTarget(
      name: "PostgresClientTests", dependencies: ["PostgresClient", "DevelopmentServers"]),
    .testTarget(
      name: "EvaluationTests",
      dependencies: [
        "Evaluation", "EvaluationReport", "LanguageModel", "OPPU", "Personalization",
        "ShiftDetection",
      ]),
    .testTarget(name: "WorkerTests", dependencies: ["Worker", "Evaluation", "Storage"]),
    .testTarget(
      name: "IntegrationTests",
      dependencies: [
        "Worker", "Evaluation", "DevelopmentServers", "KafkaClient", "PostgresClient", "CRDKafka",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
