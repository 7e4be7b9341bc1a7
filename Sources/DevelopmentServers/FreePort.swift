// Ports on 127.0.0.1: finding a free one and seeing whether someone listens.

import Foundation

/// Ports of 127.0.0.1.
public enum LocalPort {
  /// A TCP port of 127.0.0.1 that was free a moment ago.
  ///
  /// Below those that the kernel gives to clients: while nobody listens on a server's port, as when it starts again,
  /// a client that tries to reach it may be given that very port as its own. Then it is connected to itself, and the
  /// server cannot have its port back.
  ///
  /// - Throws: `DevelopmentServerError.port` if there is none.
  public static func free() throws -> Int {
    for _ in 0..<100 {
      guard let (descriptor, port) = try? bound(to: .random(in: 16_384..<32_768)) else { continue }
      close(descriptor)
      return port
    }
    let (descriptor, port) = try bound()
    close(descriptor)
    return port
  }

  /// A socket that listens on a free port of 127.0.0.1; the caller closes it.
  ///
  /// - Throws: `DevelopmentServerError.port`.
  static func listen() throws -> (descriptor: Int32, port: Int) {
    let (descriptor, port) = try bound()
    guard Foundation.listen(descriptor, 64) == 0 else {
      defer { close(descriptor) }
      throw DevelopmentServerError.port(port, reason: String(cString: strerror(errno)))
    }
    return (descriptor, port)
  }

  /// - Parameter port: 0: the kernel chooses.
  private static func bound(to port: UInt16 = 0) throws -> (descriptor: Int32, port: Int) {
    let descriptor = openSocket()
    guard descriptor >= 0 else {
      throw DevelopmentServerError.port(0, reason: String(cString: strerror(errno)))
    }
    var address = loopback(port: port)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard isBound else {
      defer { close(descriptor) }
      throw DevelopmentServerError.port(0, reason: String(cString: strerror(errno)))
    }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  /// Whether something accepts connections on a port of 127.0.0.1.
  public static func isListening(_ port: Int) -> Bool {
    guard let descriptor = connect(port) else { return false }
    close(descriptor)
    return true
  }

  /// A connection to a port of 127.0.0.1, which the caller closes; nil where nobody listens.
  public static func connect(_ port: Int) -> Int32? {
    guard let number = UInt16(exactly: port) else { return nil }
    let descriptor = openSocket()
    guard descriptor >= 0 else { return nil }
    var address = loopback(port: number)
    let isConnected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isConnected else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  private static func openSocket() -> Int32 {
    #if os(Linux)
      socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    #else
      socket(AF_INET, SOCK_STREAM, 0)
    #endif
  }

  private static func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }
}
