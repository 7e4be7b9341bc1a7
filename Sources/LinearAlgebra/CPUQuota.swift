// How many cores a control group lets this process use: a container's limit, which the machine's cores do not tell.

import Foundation

/// The CPU quota of Linux' control groups, version 1 and 2.
public enum CPUQuota {
  /// Whole cores that the quota is worth, at least 1; nil where there is none.
  ///
  /// - Parameter read: the contents of a file, nil where there is none.
  public static func cores(
    read: (String) -> String? = { try? String(contentsOfFile: $0, encoding: .utf8) }
  ) -> Int? {
    guard let groups = read("/proc/self/cgroup") else { return nil }
    var quotas: [Double] = []
    for line in groups.split(separator: "\n") {
      // number:controllers:path; version 2 has neither number nor controllers.
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      if fields[1].isEmpty {
        quotas += folders("/sys/fs/cgroup", fields[2]).compactMap { second(read("\($0)/cpu.max")) }
      } else if fields[1].split(separator: ",").contains("cpu") {
        for mount in ["/sys/fs/cgroup/\(fields[1])", "/sys/fs/cgroup/cpu"] {
          quotas += folders(mount, fields[2]).compactMap {
            first(read("\($0)/cpu.cfs_quota_us"), read("\($0)/cpu.cfs_period_us"))
          }
        }
      }
    }
    // Every group on the way up limits what is in it; a container may see the last one only.
    return quotas.min().map { max(1, Int($0)) }
  }

  /// The group's folder and those above it.
  private static func folders(_ mount: String, _ path: Substring) -> [String] {
    var parts = path.split(separator: "/")
    var folders = [mount]
    while !parts.isEmpty {
      folders.append(mount + "/" + parts.joined(separator: "/"))
      parts.removeLast()
    }
    return folders
  }

  /// `200000 100000`, or `max 100000` where there is no limit.
  private static func second(_ text: String?) -> Double? {
    let numbers = (text ?? "").split { $0 == " " || $0 == "\n" }
    guard numbers.count == 2 else { return nil }
    return first(String(numbers[0]), String(numbers[1]))
  }

  /// Microseconds within a period; -1 where there is no limit.
  private static func first(_ quota: String?, _ period: String?) -> Double? {
    func number(_ text: String?) -> Double? {
      text.flatMap { Double($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
    }
    guard let quota = number(quota), let period = number(period), quota > 0, period > 0 else {
      return nil
    }
    return quota / period
  }
}
