// The settings in force as a YAML file: what each means, where its value comes from, and the value.

import Worker

/// What `run --print-config` prints. Secrets are masked, and such lines commented out, so that the rest can be
/// read back as a settings file.
struct SettingListing {
  let configuration: WorkerConfiguration
  let given: [String: SettingText]

  func text() -> String {
    Setting.all.map { setting in
      let shown = setting.show(configuration)
      // What takes effect only through other settings is shown as it was given.
      let value = shown.isEmpty ? given[setting.key]?.text ?? "" : shown
      let source = given[setting.key].map { "from \($0.source)" } ?? "default"
      let isMasked = value.contains(Setting.mask)
      return """
        # \(setting.help)
        # [\(Setting.environmentName(setting.key)), \(source)]
        \(isMasked ? "# " : "")\(setting.key): \(Self.scalar(value))
        """
    }.joined(separator: "\n")
  }

  /// A text as a YAML scalar that is read back as the same text.
  static func scalar(_ text: String) -> String {
    let isPlain =
      text.wholeMatch(of: /[A-Za-z0-9.\/_+\-][A-Za-z0-9.\/_,:+@=?&%*\-]*/) != nil
      && !text.hasSuffix(":") && !text.hasPrefix("-") && text.lowercased() != "null"
      && !text.hasPrefix("...")
    guard !isPlain else { return text }
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": quoted += "\\\(scalar)"
      case "\n": quoted += "\\n"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        quoted += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}
