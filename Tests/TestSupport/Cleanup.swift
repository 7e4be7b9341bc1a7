// Removes the folders of the tests when the test process ends.

import Foundation
import Synchronization

public enum Cleanup {
  private static let folders = Mutex<[String]>([])

  /// Removes a folder when the test process ends.
  public static func removeAtExit(_ folder: String) {
    let isFirst = folders.withLock { folders in
      folders.append(folder)
      return folders.count == 1
    }
    guard isFirst else { return }
    atexit {
      for folder in Cleanup.folders.withLock({ $0 }) {
        // The server is told to end before its files go; it ends with this process anyway.
        let pidFile = folder + "/data/postmaster.pid"
        if let text = try? String(contentsOfFile: pidFile, encoding: .utf8),
          let processID = pid_t(text.prefix { $0.isNumber })
        {
          kill(processID, SIGQUIT)
          for _ in 0..<200 where FileManager.default.fileExists(atPath: "/proc/\(processID)/cwd") {
            usleep(10_000)
          }
        }
        try? FileManager.default.removeItem(atPath: folder)
      }
    }
  }
}
