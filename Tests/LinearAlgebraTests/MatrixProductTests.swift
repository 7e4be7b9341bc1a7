// Matrix products and the threads under them.

import CKernels
import Foundation
import RandomNumbers
import Synchronization
import Testing

@testable import LinearAlgebra

@Suite("Matrix products")
struct MatrixProductTests {
  @Test("sgemm equals a product in double precision for all transpositions, strides and factors")
  func products() {
    let seed: UInt64 = 97
    var generator = SplitMix64(seed: seed)
    for (m, n, k) in [(1, 1, 1), (2, 300, 40), (300, 2, 40), (65, 130, 33), (128, 576, 64)] {
      for (transposeA, transposeB) in [(false, false), (false, true), (true, false), (true, true)] {
        let (lda, ldb, ldc) = ((transposeA ? m : k) + 3, (transposeB ? k : n) + 1, n + 2)
        let a = (0..<(transposeA ? k : m) * lda).map { _ in generator.nextUniform() }
        let b = (0..<(transposeB ? n : k) * ldb).map { _ in generator.nextUniform() }
        let before = (0..<m * ldc).map { _ in generator.nextUniform() }
        var c = before
        var portable = before
        sgemm(
          m: m, n: n, k: k, alpha: 0.5, a: a, lda: lda, transposeA: transposeA, b: b, ldb: ldb,
          transposeB: transposeB, beta: -2, c: &c, ldc: ldc)
        ck_gemm_portable(
          transposeA ? 1 : 0, transposeB ? 1 : 0, m, n, k, 0.5, a, lda, b, ldb, -2, &portable, ldc)
        for i in 0..<m {
          for j in 0..<ldc {
            let place = i * ldc + j
            var expected = Double(before[place])
            if j < n {
              var sum = 0.0
              for p in 0..<k {
                sum +=
                  Double(a[transposeA ? p * lda + i : i * lda + p])
                  * Double(b[transposeB ? j * ldb + p : p * ldb + j])
              }
              expected = -2 * expected + 0.5 * sum
            }
            #expect(abs(Double(c[place]) - expected) < 1e-4, "\((m, n, k)) \((i, j)) seed \(seed)")
            #expect(abs(Double(portable[place]) - expected) < 1e-4)
          }
        }
      }
    }
  }

  @Test("Better kernels are chosen for a better processor only")
  func correction() {
    func better(_ name: String, _ family: Int, amd: Bool = false) -> [String] {
      OpenBLASLibrary.betterCores(than: name, family: Int32(family), isAMD: amd)
    }
    #expect(better("Prescott", CK_CPU_AVX512) == ["SkylakeX", "Haswell"])
    #expect(better("Haswell", CK_CPU_AVX512) == ["SkylakeX"])
    #expect(better("Zen", CK_CPU_AVX512, amd: true) == ["SkylakeX"])
    #expect(better("SkylakeX", CK_CPU_AVX512) == [])
    #expect(better("Nehalem", CK_CPU_AVX2) == ["Haswell"])
    #expect(better("Prescott", CK_CPU_AVX2, amd: true) == ["Zen"])
    #expect(better("Zen", CK_CPU_AVX2, amd: true) == [])
    #expect(better("Prescott", CK_CPU_BASIC) == [])
    #expect(better("ARMV8", CK_CPU_OTHER) == [])
  }

  #if compiler(>=6.2)
    /// In a process of its own: a library that is open already keeps its kernels.
    @Test("A library on an old processor's kernels is opened again on this processor's")
    func reopened() async {
      await #expect(processExitsWith: .success) {
        let old = OpenBLASLibrary.open(core: "Prescott")
        let better = OpenBLASLibrary.betterCores(
          than: "Prescott", family: ck_cpu_family(), isAMD: ck_cpu_is_amd() != 0)
        // Nothing to show without OpenBLAS, or on a processor that has no better kernels.
        guard old?.coreName == "Prescott", !better.isEmpty else { return }
        let chosen = BLAS.choose(from: old, userChoice: nil)
        #expect(better.contains(chosen?.coreName ?? ""))
        #expect(chosen?.isCorrect() == true)
      }
    }
  #endif

  @Test("The report names the kernels, and they compute")
  func report() {
    let report = BLAS.shared.report
    #expect(!report.coreName.isEmpty)
    #expect(report.corrected == (report.coreName != report.initialCoreName))
    let rate = BLAS.shared.measureGFLOPS(seconds: 0.05)
    #expect(rate > 0.1)
    print("Kernels: \(report), \(Int(rate)) GFLOP/s on \(ThreadPool.shared.width) threads")
  }

  @Test("Every index is computed once, also by nested and concurrent callers")
  func threads() async {
    let pool = ThreadPool(width: 3)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          await withCheckedContinuation { done in
            Thread {
              for round in 0..<200 {
                let counts = (0..<17).map { _ in Counter() }
                pool.parallel(17) { index in
                  if round % 10 == 0 {
                    pool.parallel(3) { _ in counts[index].add() }
                  } else {
                    counts[index].add()
                  }
                }
                let expected = round % 10 == 0 ? 3 : 1
                #expect(counts.allSatisfy { $0.value == expected })
              }
              done.resume()
            }.start()
          }
        }
      }
    }
  }

  @Test("Ranges cover everything without overlap; slots stay below the width")
  func ranges() {
    let pool = ThreadPool(width: 4)
    for count in [0, 1, 3, 4, 17, 100] {
      let seen = Mutex<[Int]>([])
      pool.parallelRanges(count, multiple: 8) { range in
        #expect(range.lowerBound % 8 == 0)
        seen.withLock { $0 += range }
      }
      #expect(seen.withLock { $0.sorted() } == Array(0..<count))
      let tasks = Mutex<[Int]>([])
      pool.parallelSlots(count) { slot, task in
        #expect(slot >= 0 && slot < 4)
        tasks.withLock { $0.append(task) }
      }
      #expect(tasks.withLock { $0.sorted() } == Array(0..<count))
    }
  }
}

private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func add() { count.add(1, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}
