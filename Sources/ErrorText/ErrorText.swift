// Errors of Foundation in words: what it says itself is a domain and a number, or a dump of a value.

import Foundation

/// What people are told of an error.
public enum ErrorText {
  /// The whole sentence, with the file that the error is about where it names one.
  public static func sentence(_ error: any Error) -> String {
    guard isFoundations(error) else { return "\(error)" }
    let information = (error as NSError).userInfo
    let file =
      information[NSFilePathErrorKey] as? String ?? (information[NSURLErrorKey] as? URL)?.path
    return (file.map { "\($0): " } ?? "") + reason(error)
  }

  /// What is wrong, for a sentence that names the file itself.
  public static func reason(_ error: any Error) -> String {
    if let error = error as? DecodingError { return reason(error) }
    guard isFoundations(error) else { return "\(error)" }
    let error = error as NSError
    if error.domain == NSPOSIXErrorDomain { return reason(Int32(clamping: error.code)) }
    if let cause = error.userInfo[NSUnderlyingErrorKey] as? any Error, isFoundations(cause) {
      return reason(cause)
    }
    guard error.domain == NSCocoaErrorDomain else { return "\(error.domain) \(error.code)" }
    switch CocoaError.Code(rawValue: error.code) {
    case .fileNoSuchFile, .fileReadNoSuchFile: return reason(ENOENT)
    case .fileReadNoPermission, .fileWriteNoPermission: return reason(EACCES)
    case .fileWriteFileExists: return reason(EEXIST)
    case .fileWriteOutOfSpace: return reason(ENOSPC)
    case .fileWriteVolumeReadOnly: return reason(EROFS)
    case .fileReadTooLarge: return "it is too large"
    case .fileReadInapplicableStringEncoding, .fileReadUnknownStringEncoding:
      return "it is not UTF-8"
    case .fileReadCorruptFile, .propertyListReadCorrupt: return "it is damaged"
    default: return "it cannot be read or written (Foundation's error \(error.code))"
    }
  }

  private static func isFoundations(_ error: any Error) -> Bool {
    error is DecodingError
      || [NSCocoaErrorDomain, NSPOSIXErrorDomain, NSURLErrorDomain]
        .contains((error as NSError).domain)
  }

  private static func reason(_ code: Int32) -> String {
    switch code {
    case ENOENT: "there is no such file or folder"
    case EACCES, EPERM: "permission is denied"
    case EISDIR: "it is a folder, not a file"
    case ENOTDIR: "a part of its path is a file, not a folder"
    case EEXIST: "there is something else of that name"
    case ENOSPC: "the disk is full"
    case EROFS: "the file system is read-only"
    default: String(cString: strerror(code))
    }
  }

  private static func reason(_ error: DecodingError) -> String {
    let (context, problem): (DecodingError.Context, String) =
      switch error {
      case .keyNotFound(let key, let context): (context, "\"\(key.stringValue)\" is missing")
      case .valueNotFound(_, let context): (context, "a value is missing")
      case .typeMismatch(_, let context): (context, "there is a value of another kind")
      case .dataCorrupted(let context): (context, "it is not the JSON that is expected")
      @unknown default: (.init(codingPath: [], debugDescription: ""), "it cannot be read")
      }
    let place = context.codingPath.map(\.stringValue).joined(separator: ".")
    return place.isEmpty ? problem : "\(problem) at \(place)"
  }
}
