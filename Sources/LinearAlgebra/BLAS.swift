// Matrix products in f32, over OpenBLAS or, where there is none, a portable loop.

import CKernels
import Foundation

/// Which kernels compute matrix products, and how they were chosen.
public struct BLASReport: Sendable, Equatable, Codable {
  /// OpenBLAS' name of the kernels in use, or `portable` where there is no working OpenBLAS.
  public let coreName: String
  /// The name that OpenBLAS chose at first.
  public let initialCoreName: String
  /// Whether better kernels than OpenBLAS' own choice were put in place.
  public let corrected: Bool
  /// `OPENBLAS_CORETYPE` as the user set it; it is left alone then.
  public let userChoice: String?
}

/// The process's matrix product. OpenBLAS itself runs on one thread; ``ThreadPool`` splits a product.
public final class BLAS: Sendable {
  /// Opens OpenBLAS on first use. Kernels that compute wrongly are not used.
  public static let shared = BLAS()

  /// Which kernels compute, as they were chosen when the library was opened.
  public let report: BLASReport
  private let library: OpenBLASLibrary?

  private init() {
    let userChoice = ProcessInfo.processInfo.environment["OPENBLAS_CORETYPE"].flatMap {
      $0.isEmpty ? nil : $0
    }
    // One thread from the start: OpenBLAS would otherwise start its own as it loads.
    let hadThreads = getenv("OPENBLAS_NUM_THREADS") != nil
    if !hadThreads { setenv("OPENBLAS_NUM_THREADS", "1", 1) }
    defer { if !hadThreads { unsetenv("OPENBLAS_NUM_THREADS") } }

    let first = OpenBLASLibrary.open()
    let initial = first?.coreName ?? "portable"
    library = Self.choose(from: first, userChoice: userChoice)
    let coreName = library?.coreName ?? "portable"
    report = BLASReport(
      coreName: coreName, initialCoreName: initial,
      corrected: library != nil && coreName != initial, userChoice: userChoice)
  }

  /// The opened library, or the same one opened again on better kernels where the processor has them and the
  /// user did not choose; nil where it computes wrongly.
  static func choose(from first: OpenBLASLibrary?, userChoice: String?) -> OpenBLASLibrary? {
    var chosen = first
    if let first, userChoice == nil {
      let better = OpenBLASLibrary.betterCores(
        than: first.coreName, family: ck_cpu_family(), isAMD: ck_cpu_is_amd() != 0)
      if !better.isEmpty {
        first.close()
        chosen = nil
        for core in better {
          guard let candidate = OpenBLASLibrary.open(core: core) else { continue }
          if candidate.coreName.lowercased() == core.lowercased(), candidate.isCorrect() {
            chosen = candidate
            break
          }
          candidate.close()
        }
        if chosen == nil { chosen = OpenBLASLibrary.open() }
      }
    }
    if let library = chosen, !library.isCorrect() {
      library.close()
      chosen = nil
    }
    return chosen
  }

  /// C = alpha · op(A) op(B) + beta · C on the calling thread; row-major, op transposes where asked.
  /// op(A) is m × k, op(B) k × n, C m × n; `lda`, `ldb`, `ldc` are the stored rows' distances.
  public func productOnThisThread(
    m: Int, n: Int, k: Int, alpha: Float = 1, a: UnsafePointer<Float>, lda: Int,
    transposeA: Bool = false, b: UnsafePointer<Float>, ldb: Int, transposeB: Bool = false,
    beta: Float = 0, c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    guard m > 0, n > 0 else { return }
    let largest = Int(Int32.max)
    if let library, max(m, n, k) <= largest, max(lda, ldb, ldc) <= largest {
      library.sgemm(
        101, transposeA ? 112 : 111, transposeB ? 112 : 111, Int32(m), Int32(n), Int32(k), alpha,
        a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
    } else {
      ck_gemm_portable(
        transposeA ? 1 : 0, transposeB ? 1 : 0, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
    }
  }

  /// Measures a 512 × 1536 × 576 product on all threads for about `seconds`; the best rate seen, in
  /// 10⁹ operations (a multiplication and an addition are two) per second.
  public func measureGFLOPS(seconds: Double = 0.3, pool: ThreadPool = .shared) -> Double {
    let (m, n, k) = (512, 1536, 576)
    let a = FloatBuffer(zeros: m * k)
    let b = FloatBuffer(zeros: n * k)
    let c = FloatBuffer(zeros: m * n)
    a.fill(0.5)
    b.fill(0.25)
    let clock = ContinuousClock()
    let start = clock.now
    var best = Duration.seconds(3600)
    repeat {
      best = min(
        best,
        clock.measure {
          sgemm(
            m: m, n: n, k: k, a: a.pointer, lda: k, b: b.pointer, ldb: k, transposeB: true,
            c: c.pointer, ldc: n, blas: self, pool: pool)
        })
    } while clock.now - start < .seconds(seconds)
    return 2 * Double(m * n * k) / (best / .seconds(1)) / 1e9
  }
}

/// C = alpha · op(A) op(B) + beta · C, row-major, split over the pool's threads. The parameters are
/// those of ``BLAS/productOnThisThread``.
public func sgemm(
  m: Int, n: Int, k: Int, alpha: Float = 1, a: UnsafePointer<Float>, lda: Int,
  transposeA: Bool = false, b: UnsafePointer<Float>, ldb: Int, transposeB: Bool = false,
  beta: Float = 0, c: UnsafeMutablePointer<Float>, ldc: Int, blas: BLAS = .shared,
  pool: ThreadPool = .shared
) {
  // Waking another thread costs some microseconds: not for less than about 100,000 operations.
  if pool.width == 1 || m * n * k < 50_000 {
    blas.productOnThisThread(
      m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, transposeA: transposeA, b: b, ldb: ldb,
      transposeB: transposeB, beta: beta, c: c, ldc: ldc)
  } else if m >= n {
    pool.parallelRanges(m, multiple: 8) { rows in
      blas.productOnThisThread(
        m: rows.count, n: n, k: k, alpha: alpha,
        a: a + rows.lowerBound * (transposeA ? 1 : lda), lda: lda, transposeA: transposeA, b: b,
        ldb: ldb, transposeB: transposeB, beta: beta, c: c + rows.lowerBound * ldc, ldc: ldc)
    }
  } else {
    pool.parallelRanges(n, multiple: 8) { columns in
      blas.productOnThisThread(
        m: m, n: columns.count, k: k, alpha: alpha, a: a, lda: lda, transposeA: transposeA,
        b: b + columns.lowerBound * (transposeB ? ldb : 1), ldb: ldb, transposeB: transposeB,
        beta: beta, c: c + columns.lowerBound, ldc: ldc)
    }
  }
}
