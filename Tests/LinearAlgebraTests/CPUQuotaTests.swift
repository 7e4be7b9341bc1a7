// Limits of containers, as Linux writes them down.

import Testing

@testable import LinearAlgebra

@Suite struct CPUQuotaTests {
  private func cores(_ files: [String: String]) -> Int? { CPUQuota.cores { files[$0] } }

  @Test("a quota of control groups version 2 is worth its whole cores, the least on the way up")
  func second() {
    let own = ["/proc/self/cgroup": "0::/\n"]
    func with(_ limit: String) -> [String: String] {
      own.merging(["/sys/fs/cgroup/cpu.max": limit]) { $1 }
    }
    #expect(cores(with("200000 100000\n")) == 2)
    #expect(cores(with("max 100000\n")) == nil)
    #expect(cores(with("250000 100000\n")) == 2)
    #expect(cores(with("50000 100000\n")) == 1)
    #expect(cores(own) == nil)
    #expect(
      cores([
        "/proc/self/cgroup": "0::/pods/one/two\n",
        "/sys/fs/cgroup/pods/one/two/cpu.max": "800000 100000",
        "/sys/fs/cgroup/pods/one/cpu.max": "300000 100000",
        "/sys/fs/cgroup/pods/cpu.max": "max 100000",
      ]) == 3)
  }

  @Test("a quota of control groups version 1, whether the container sees the host's path or not")
  func first() {
    let groups = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"
    for folder in ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu/docker/x"] {
      #expect(
        cores([
          "/proc/self/cgroup": groups, "\(folder)/cpu.cfs_quota_us": "200000\n",
          "\(folder)/cpu.cfs_period_us": "100000\n",
        ]) == 2)
    }
    #expect(
      cores([
        "/proc/self/cgroup": groups, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      ]) == nil)
    #expect(cores([:]) == nil)
    #expect(cores(["/proc/self/cgroup": "nonsense"]) == nil)
  }

  @Test("threads are what was asked for, else the cores within the quota")
  func threads() {
    #expect(ThreadPool.defaultWidth(asked: nil, cores: 64, quota: 2) == 2)
    #expect(ThreadPool.defaultWidth(asked: nil, cores: 2, quota: 8) == 2)
    #expect(ThreadPool.defaultWidth(asked: nil, cores: 4, quota: nil) == 4)
    #expect(ThreadPool.defaultWidth(asked: "6", cores: 4, quota: 2) == 6)
  }
}
