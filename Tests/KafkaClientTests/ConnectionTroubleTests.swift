// What is said of connections that fail, from what librdkafka tells.

import CRDKafka
import DevelopmentServers
import Foundation
import Testing

@testable import KafkaClient

@Suite("Why no broker can be reached") struct ConnectionTroubleTests {
  private let login =
    "sasl_plaintext://b:1/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 410ms in state AUTH_REQ)"

  private func trouble(after lines: [String] = []) -> ConnectionTrouble {
    var trouble = ConnectionTrouble()
    trouble.scramProblem = "SCRAM needs a newer one."
    for line in lines { trouble.note(log: line) }
    return trouble
  }

  @Test(
    "a SCRAM login that a broker of Kafka 4 refuses is librdkafka's fault; of Kafka 3, the password's",
    arguments: [(0, false), (3, false), (4, true), (12, true)])
  func scram(_ least: Int, _ isLibrary: Bool) throws {
    var found = trouble(after: ["b:1/bootstrap:   ApiKey Fetch (1) Versions \(least)..18"])
    found.note(RD_KAFKA_RESP_ERR__AUTHENTICATION, login)
    let sentence = try #require(found.cause?.sentence)
    #expect(sentence.contains("invalid credentials") != isLibrary)
    #expect((sentence == "SCRAM needs a newer one.") == isLibrary)
    #expect(found.isFinal)
  }

  @Test("a refused login says so without librdkafka's own bookkeeping")
  func tidied() {
    var found = trouble()
    found.note(
      RD_KAFKA_RESP_ERR__AUTHENTICATION,
      "sasl_plaintext://b:1/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after 301ms in state AUTH_REQ, 1 identical error(s) suppressed)"
    )
    #expect(
      found.cause?.sentence
        == "sasl_plaintext://b:1: SASL authentication error: Authentication failed: Invalid username or password"
    )
  }

  @Test("what hinders for good is told rather than what may pass, and the first of it")
  func weight() {
    var found = trouble()
    found.note(RD_KAFKA_RESP_ERR__TRANSPORT, "b:1/bootstrap: Connect to b:1 failed: refused")
    #expect(found.cause?.sentence == "b:1: Connect to b:1 failed: refused")
    #expect(!found.isFinal)
    found.note(RD_KAFKA_RESP_ERR__AUTHENTICATION, "first")
    found.note(RD_KAFKA_RESP_ERR__AUTHENTICATION, "second")
    found.note(RD_KAFKA_RESP_ERR__TRANSPORT, "third")
    found.note(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "1/1 brokers are down")
    #expect(found.cause?.sentence == "first")
    #expect(found.isFinal)
  }

  @Test("a client certificate that is refused, and a port without TLS, are told")
  func tls() {
    var found = trouble()
    found.note(
      RD_KAFKA_RESP_ERR__TRANSPORT,
      "ssl://b:1/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42 (after 0ms in state APIVERSION_QUERY)"
    )
    #expect(found.cause?.sentence.contains("refuses this client's certificate") == true)
    #expect(found.isFinal)
    found = trouble()
    found.note(
      RD_KAFKA_RESP_ERR__SSL,
      "ssl://b:1/bootstrap: SSL handshake failed: error:0A000126:SSL routines::unexpected eof while reading (after 9ms in state SSL_HANDSHAKE)"
    )
    #expect(found.cause?.sentence.contains("without TLS") == true)
  }

  /// A certificate of a TLS server, and who is to trust it.
  enum Certificate: String, CaseIterable {
    case unknownAuthority = "ssl.ca.location"
    case expired = "has expired"
    case otherHost = "not for this host name"
  }

  @Test(
    "why a broker's certificate is not trusted is told within ten seconds",
    arguments: Certificate.allCases)
  func certificate(_ kind: Certificate) async throws {
    let folder = Broker.folder()
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    func openssl(_ arguments: [String]) -> ChildProcess.Launch {
      ChildProcess.Launch(
        executable: "/usr/bin/openssl", arguments: arguments, workingDirectory: folder.path,
        logFile: folder.appendingPathComponent("log").path)
    }
    // Its own authority; without `-days` a certificate of OpenSSL 3 holds for 30 days, with a negative number it is
    // over before it begins.
    let name = kind == .otherHost ? "DNS:elsewhere.example" : "IP:127.0.0.1"
    try await ChildProcess.run(
      openssl([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out",
        "request.pem",
        "-subj", "/CN=broker", "-addext", "subjectAltName=\(name)",
      ]))
    // Signed anew, for `req` refuses to make what is over.
    try await ChildProcess.run(
      openssl([
        "x509", "-in", "request.pem", "-signkey", "key.pem", "-out", "cert.pem", "-days",
        kind == .expired ? "-1" : "30",
      ]))
    let port = try LocalPort.free()
    let server = try await ChildProcess.start(
      openssl([
        "s_server", "-accept", "127.0.0.1:\(port)", "-cert", "cert.pem", "-key", "key.pem",
        "-quiet",
      ]))
    defer { server.signal(SIGKILL) }
    let deadline = ContinuousClock.now + .seconds(30)
    while !LocalPort.isListening(port), ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(20))
    }
    var properties = ["security.protocol": "SSL"]
    if kind != .unknownAuthority {
      properties["ssl.ca.location"] = folder.appendingPathComponent("cert.pem").path
    }
    let admin = try KafkaAdmin(
      configuration: KafkaConfiguration(
        bootstrapServers: "127.0.0.1:\(port)", properties: properties), logger: Broker.quiet)
    let begin = ContinuousClock.now
    let error = await #expect(throws: KafkaError.self) {
      try await admin.ping(timeout: .seconds(10))
    }
    await admin.close()
    #expect(error?.message.contains(kind.rawValue) == true, "\(String(describing: error))")
    #expect(error?.message.contains("127.0.0.1:\(port)") == true)
    #expect(error?.isRetriable == false)
    #expect(ContinuousClock.now - begin < .seconds(10))
  }
}
