// Why no broker can be reached, from what librdkafka says in passing: its calls know only that there was no answer.

import CRDKafka
import Foundation

/// What is known of a client's failing connections. A pure value.
struct ConnectionTrouble: Sendable {
  /// How telling a cause is.
  private enum Weight: Int, Comparable {
    case none, network, security
    static func < (one: Self, other: Self) -> Bool { one.rawValue < other.rawValue }
  }

  /// What to say where SCRAM was refused by a broker of Kafka 4 or newer; nil: it means what it says.
  var scramProblem: String?
  /// The most telling cause that was seen, and librdkafka's code of it.
  private(set) var cause: (code: rd_kafka_resp_err_t, sentence: String)?
  private var weight = Weight.none
  private var certificateProblem: String?
  private var isKafka4 = false

  /// Whether only another setting, or another right, would help.
  var isFinal: Bool { weight == .security }

  /// What to say instead of an error of this code.
  func sentence(for code: rd_kafka_resp_err_t) -> String? {
    let isConnection = [
      RD_KAFKA_RESP_ERR__AUTHENTICATION, RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__TRANSPORT,
    ].contains(code)
    return isFinal && isConnection ? cause?.sentence : nil
  }

  /// What the verification of a certificate says of it, in the log; see ``CertificateProblem``.
  static let certificateMark = "certificate problem: "

  /// Takes a line of librdkafka's log.
  mutating func note(log line: String) {
    if let range = line.range(of: Self.certificateMark) {
      certificateProblem = String(line[range.upperBound...])
    } else if let fetch = line.firstMatch(of: /ApiKey Fetch \(1\) Versions (\d+)\.\./) {
      // Kafka 4.0 took away the first four versions (KIP-896). What it says of others is bent for old clients.
      isKafka4 = (Int(fetch.1) ?? 0) >= 4
    }
  }

  /// Takes an error of librdkafka's.
  mutating func note(_ code: rd_kafka_resp_err_t, _ message: String) {
    var code = code
    let sentence: String
    let weight: Weight
    switch code {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
      weight = .security
      sentence = isKafka4 ? scramProblem ?? Self.tidy(message) : Self.tidy(message)
    case RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__RESOLVE:
      if message.contains("certificate verify failed"), let certificateProblem {
        weight = .security
        sentence = "\(Self.place(message))\(certificateProblem)"
      } else if message.contains("SSL alert number") {
        weight = .security
        sentence =
          "\(Self.tidy(message)): the broker refuses this client's certificate (ssl.certificate.location, ssl.key.location)"
      } else if code == RD_KAFKA_RESP_ERR__SSL {
        weight = .security
        let isPlain = ["unexpected eof", "wrong version number", "record layer"].contains {
          message.contains($0)
        }
        sentence =
          Self.tidy(message)
          + (isPlain ? ": is that port one without TLS (security.protocol)?" : "")
      } else {
        weight = .network
        sentence = Self.tidy(message)
      }
    default: return
    }
    guard weight >= self.weight else { return }
    // The first of a kind: what follows is librdkafka's repetition of it.
    if weight == self.weight, cause != nil { return }
    self.weight = weight
    // Of TLS, though librdkafka at times takes it for the network's.
    if weight == .security, code != RD_KAFKA_RESP_ERR__AUTHENTICATION {
      code = RD_KAFKA_RESP_ERR__SSL
    }
    cause = (code, sentence)
  }

  /// Without what only librdkafka's developers need.
  private static func tidy(_ message: String) -> String {
    message.replacing(#/ \(after \d+ms in state .*/#, with: "")
      .replacing("/bootstrap: ", with: ": ")
      .replacing(#/error:[0-9A-F]{8}:/#, with: "")
  }

  /// `ssl://host:port: `, where the message begins so.
  private static func place(_ message: String) -> String {
    tidy(message).prefixMatch(of: #/\w+://\S+: /#).map { String($0.0) } ?? ""
  }
}

/// Why a broker's certificate cannot be trusted.
enum CertificateProblem {
  /// OpenSSL's number (`X509_V_ERR_…`) in words.
  static func sentence(_ number: Int32) -> String {
    switch number {
    case 9: "the broker's certificate is not valid yet: do the clocks agree?"
    case 10: "the broker's certificate has expired"
    case 18, 19, 20, 21:
      "the broker's certificate is of an authority that is not known here: name it by ssl.ca.location"
    case 23: "the broker's certificate has been revoked"
    case 62, 64:
      "the broker's certificate is not for this host name: kafka.bootstrapServers and the broker's advertised listeners have to use a name that is in it"
    default: "the broker's certificate cannot be verified (X509 error \(number))"
    }
  }

  /// Has librdkafka tell why it trusts no certificate, which it knows and keeps to itself. Nothing is trusted by
  /// it that would not be without.
  static func tell(by configuration: OpaquePointer) {
    rd_kafka_conf_set_ssl_cert_verify_cb(configuration) { _, _, _, number, _, _, _, text, size, _ in
      guard let number else { return 0 }
      if number.pointee == 0 { return 1 }
      if let text, size > 0 {
        let words = Array(
          (ConnectionTrouble.certificateMark + CertificateProblem.sentence(number.pointee))
            .utf8CString)
        let count = min(words.count, size)
        for index in 0..<count { text[index] = words[index] }
        text[count - 1] = 0
      }
      return 0
    }
  }
}
