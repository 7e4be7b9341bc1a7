// An adapter's changes as the forward pass reads them.

import LinearAlgebra

/// A ``ProjectionChange`` as plain pointers into its buffers: copying it counts no references, which
/// threads that share an adapter would otherwise wait for each other over.
struct PlainChange {
  /// [rank × input width]; nil without factors.
  let a: UnsafePointer<Float>?
  /// [rank × output width]
  let bTransposed: UnsafePointer<Float>?
  let rank: Int
  let scaling: Float
  let inputScale: UnsafePointer<Float>?
  let outputScale: UnsafePointer<Float>?

  init(_ change: ProjectionChange) {
    a = change.factors.map { UnsafePointer($0.a.pointer) }
    bTransposed = change.bTransposed.map { UnsafePointer($0.pointer) }
    rank = change.rank
    scaling = change.scaling
    inputScale = change.inputScale.map { UnsafePointer($0.pointer) }
    outputScale = change.outputScale.map { UnsafePointer($0.pointer) }
  }
}

/// All changes of an adapter.
///
/// Unchecked: written in `init` and only read afterwards, and `table` keeps what the pointers point at.
final class ChangeTable: @unchecked Sendable {
  /// The table without its ownership.
  struct View {
    fileprivate let changes: UnsafeMutablePointer<PlainChange>
    fileprivate let starts: UnsafeMutablePointer<Int>

    /// What is done to a projection of a layer, from the lowest adapter to the uppermost.
    func changes(layer: Int, _ projection: Projection) -> UnsafeBufferPointer<PlainChange> {
      let place = starts + layer * Projection.allCases.count + projection.index
      return UnsafeBufferPointer(start: changes + place[0], count: place[1] - place[0])
    }
  }

  let view: View
  /// The projections that some change scales the input of.
  let scaledInputs: Set<Projection>
  private let table: [[ProjectionChange]]
  private let count: Int

  /// Takes the changes by layer and `Projection.index`.
  init(_ table: [[ProjectionChange]]) {
    self.table = table
    let all = table.joined()
    count = all.count
    let changes = UnsafeMutablePointer<PlainChange>.allocate(capacity: max(count, 1))
    for (index, change) in all.enumerated() {
      (changes + index).initialize(to: PlainChange(change))
    }
    let starts = UnsafeMutablePointer<Int>.allocate(capacity: table.count + 1)
    starts[0] = 0
    for (index, some) in table.enumerated() { starts[index + 1] = starts[index] + some.count }
    view = View(changes: changes, starts: starts)
    scaledInputs = Set(
      Projection.allCases.filter { projection in
        stride(from: projection.index, to: table.count, by: Projection.allCases.count)
          .contains { table[$0].contains { $0.inputScale != nil } }
      })
  }

  deinit {
    view.changes.deallocate()
    view.starts.deallocate()
  }
}
