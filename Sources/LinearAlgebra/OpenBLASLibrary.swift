// OpenBLAS opened at run time, on the kernels that suit the processor.

import CKernels
import COpenBLAS
import Foundation
import RandomNumbers

/// One opened OpenBLAS and the functions used of it.
struct OpenBLASLibrary: @unchecked Sendable {
  // Unchecked: the handle is only used to close the library before anyone else sees it; OpenBLAS'
  // functions may be called from any thread.
  let handle: UnsafeMutableRawPointer
  let sgemm: openblas_sgemm_function
  let coreName: String

  /// Opens the library with the environment as it is; nil if it or a function is not there.
  static func open() -> OpenBLASLibrary? {
    #if os(macOS)
      let names = [
        "libopenblas.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
        "/usr/local/opt/openblas/lib/libopenblas.dylib",
      ]
    #else
      let names = ["libopenblas.so.0", "libopenblas.so"]
    #endif
    for name in names {
      guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { continue }
      if let sgemm = dlsym(handle, "cblas_sgemm"),
        let coreName = dlsym(handle, "openblas_get_corename"),
        let setThreads = dlsym(handle, "openblas_set_num_threads")
      {
        unsafeBitCast(setThreads, to: openblas_set_num_threads_function.self)(1)
        let name = unsafeBitCast(coreName, to: openblas_get_corename_function.self)()
        return OpenBLASLibrary(
          handle: handle, sgemm: unsafeBitCast(sgemm, to: openblas_sgemm_function.self),
          coreName: name.map { String(cString: $0) } ?? "unknown")
      }
      dlclose(handle)
    }
    return nil
  }

  /// Opens the library on the kernels called `core` and restores the environment.
  static func open(core: String) -> OpenBLASLibrary? {
    setenv("OPENBLAS_CORETYPE", core, 1)
    defer { unsetenv("OPENBLAS_CORETYPE") }
    return open()
  }

  func close() { dlclose(handle) }

  /// The names of kernels better than `coreName` that the processor can run, best first.
  static func betterCores(than coreName: String, family: Int32, isAMD: Bool) -> [String] {
    let avx512 = ["skylakex", "cooperlake", "sapphirerapids", "zen4", "zen5"]
    let avx2 = ["haswell", "zen", "excavator"]
    let current = coreName.lowercased()
    if family == CK_CPU_AVX512 && !avx512.contains(current) {
      // SkylakeX is in every OpenBLAS that has AVX-512 kernels at all.
      return ["SkylakeX"] + (avx2.contains(current) ? [] : [isAMD ? "Zen" : "Haswell"])
    }
    if family == CK_CPU_AVX2 && !avx2.contains(current) && !avx512.contains(current) {
      return [isAMD ? "Zen" : "Haswell"]
    }
    return []
  }

  /// Whether products of several shapes and transpositions equal a scalar computation: some old
  /// kernels compute wrongly on some processors.
  func isCorrect() -> Bool {
    var generator = SplitMix64(seed: 20_240_204)
    for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 65), (64, 64, 64), (130, 97, 259)] {
      let a = (0..<m * k).map { _ in generator.nextUniform() }
      let b = (0..<k * n).map { _ in generator.nextUniform() }
      for (transA, transB) in [(false, false), (false, true), (true, false), (true, true)] {
        var c = [Float](repeating: 1, count: m * n)
        let lda = transA ? m : k
        let ldb = transB ? k : n
        sgemm(
          101, transA ? 112 : 111, transB ? 112 : 111, Int32(m), Int32(n), Int32(k), 0.5, a,
          Int32(lda), b, Int32(ldb), 2, &c, Int32(n))
        for i in 0..<m {
          for j in 0..<n {
            var sum = 0.0
            for p in 0..<k {
              sum +=
                Double(a[transA ? p * lda + i : i * lda + p])
                * Double(b[transB ? j * ldb + p : p * ldb + j])
            }
            let difference = abs(Double(c[i * n + j]) - (2 + 0.5 * sum))
            if !(difference <= 1e-5 * Double(k) + 1e-6) { return false }
          }
        }
      }
    }
    return true
  }
}
