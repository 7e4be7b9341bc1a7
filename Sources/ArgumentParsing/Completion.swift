// stub
enum Completion { static func answer(_ words: [String], for program: CommandInterface) throws {} }
struct ManualPage { init(_ c: CommandInterface) {}
  var text: String { "" } }
