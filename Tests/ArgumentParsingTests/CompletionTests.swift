// What is offered next, by the program and in the three shells themselves.

import Foundation
import TestSupport
import Testing

@testable import ArgumentParsing

@Suite struct CompletionTests {
  /// The answer to a shell: how files are completed, and the words.
  private func offered(_ words: String...) -> [String] {
    let completion = Completion(of: words, in: CommandInterface(Tool.self))
    return (completion.kind == "words" ? [] : ["<\(completion.kind)>"])
      + completion.offers.map(\.word)
  }

  @Test("Commands are offered where one can stand, with what they are for")
  func commands() {
    #expect(offered("") == ["draw", "items", "fail", "help"])
    #expect(offered() == ["draw", "items", "fail", "help"])
    #expect(offered("d") == ["draw"])
    #expect(offered("items", "") == ["list", "add", "help"])
    #expect(offered("help", "") == ["draw", "items", "fail", "--man"])
    #expect(offered("help", "items", "l") == ["list"])
    #expect(offered("x") == [])
    let first = Completion(of: [""], in: CommandInterface(Tool.self)).offers.first
    #expect(first?.about == "Draw shapes.")
  }

  @Test("Options are offered that were not given yet, those of a default subcommand too")
  func options() {
    #expect(offered("draw", "--s") == ["--set", "--shape", "--scale"])
    #expect(offered("draw", "--scale=1", "--set", "a", "--s") == ["--set", "--shape"])
    #expect(offered("items", "--l") == ["--limit"])
    #expect(offered("items", "list", "--h") == ["--help"])
    #expect(offered("draw", "--ver") == ["--verbose", "--version"])
    #expect(offered("draw", "1", "--", "--s") == [])
    #expect(offered("draw", "1", "x", "y", "--s") == [])
    #expect(offered("draw", "1", "x", "").contains("--prompt"))
  }

  @Test("Values are offered after their option: cases, files, lists, what the program says")
  func values() {
    #expect(offered("draw", "--shape", "") == ["circle", "square", "triangle"])
    #expect(offered("draw", "-s", "t") == ["triangle"])
    #expect(offered("draw", "--shape=s") == ["square"])
    #expect(offered("draw", "-fvs", "s") == ["square"])
    #expect(offered("draw", "--config", "") == ["<file yaml>"])
    #expect(offered("draw", "") == ["1", "2"])
    #expect(offered("draw", "1", "") == ["<directory>"])
    #expect(offered("draw", "--colour", "r") == ["red", "rose"])
    #expect(offered("draw", "--colour", "--") == ["--colour"])
    #expect(offered("draw", "--prompt", "") == [])
    #expect(offered("draw", "--prompt", "--fill", "") == [])
  }

  @Test("The hidden option answers in lines, and scripts are there for the shells that are known")
  func asking() throws {
    #expect(answer("---completion", "it") == "words\nitems\tItems.")
    for shell in ["bash", "zsh", "fish"] {
      #expect(answer("--generate-completion-script", shell).contains("---completion"))
      #expect(answer("--generate-completion-script=\(shell)").contains("---completion"))
    }
    #expect(answer("--generate-completion-script", "tcsh").contains("not for 'tcsh'\n"))
  }

  private func answer(_ words: String...) -> String {
    do {
      _ = try Tool.parseAsRoot(words)
      return ""
    } catch { return Tool.fullMessage(for: error) }
  }

  /// What is typed before Tab is pressed, and what then stands there.
  private static let typed = [
    ("tool dr", "tool draw "),
    ("tool items ad", "tool items add "),
    ("tool draw --shape tr", "tool draw --shape triangle "),
    ("tool draw --shape=tr", "tool draw --shape=triangle "),
    ("tool draw --set a=b --sha", "tool draw --set a=b --shape "),
    ("tool draw --config sett", "tool draw --config settings.yaml "),
    ("tool draw --config=sett", "tool draw --config=settings.yaml "),
    ("tool draw 1 pla", "tool draw 1 places/"),
    ("tool draw --colour ro", "tool draw --colour rose "),
  ]

  /// A shell types the lines above in a terminal of its own, with a `tool` that answers as this
  /// module does, but only what the module would be asked.
  private func type(in shell: String, _ program: String, script: String) throws -> [String] {
    let folder = try TemporaryFolder()
    let answers = folder.path + "/answers"
    for path in [answers, folder.path + "/bin", folder.path + "/here/places"] {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    for name in ["settings.yaml", "settings.json", "plain file"] {
      try Data().write(to: URL(fileURLWithPath: folder.path + "/here/" + name))
    }
    for (line, _) in Self.typed {
      let words = line.split(separator: " ").dropFirst().map(String.init)
      let text = Completion(of: words, in: CommandInterface(Tool.self)).text + "\n"
      let name = words.joined(separator: "|")
      try text.write(toFile: answers + "/" + name, atomically: true, encoding: .utf8)
    }
    let tool = folder.path + "/bin/tool"
    try """
    #!/bin/sh
    test "$1" = ---completion || exit 2
    shift
    IFS='|'
    exec cat "\(answers)/$*"
    """.write(toFile: tool, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: tool)
    let completions = folder.path + "/completions"
    try #require(CompletionScript.script(for: shell, program: "tool"))
      .write(toFile: completions, atomically: true, encoding: .utf8)
    let file = folder.path + "/script"
    try script.write(toFile: file, atomically: true, encoding: .utf8)
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    let result = try Programs.run(
      program, [file], in: folder.path + "/here",
      environment: [
        "PATH": folder.path + "/bin:" + path, "COMPLETIONS": completions, "HOME": folder.path,
        "LINES_TYPED": Self.typed.map(\.0).joined(separator: "\n"), "FOLDER": folder.path,
        "TERM": "dumb",
      ])
    return result.output.split(separator: "\n").map(String.init)
  }

  @Test("Tab in zsh writes what is meant")
  func zsh() throws {
    guard let program = Programs.find("zsh") else {
      return print("zsh is not installed: its completion was not tried")
    }
    let lines = try type(
      in: "zsh", program,
      script: #"""
        zmodload zsh/zpty
        cat > $FOLDER/start <<'END'
        PROMPT=; autoload -Uz compinit; compinit -u -D; source $COMPLETIONS
        shown() { print -r -- "$BUFFER|" >> $FOLDER/shown; BUFFER= }
        zle -N shown; bindkey '^G' shown
        END
        touch $FOLDER/shown
        zpty shell zsh -f -i
        zpty -w shell "source $FOLDER/start"
        lines=("${(@f)LINES_TYPED}")
        for line in $lines; do zpty -w -n shell "$line"$'\t\a'; done
        repeat 600; do
          while zpty -r -t shell; do :; done > /dev/null
          (( $(wc -l < $FOLDER/shown) >= $#lines )) && break
          sleep 0.1
        done
        zpty -d shell
        cat $FOLDER/shown
        """#)
    #expect(lines == Self.typed.map { $0.1 + "|" })
  }

  @Test("Tab in bash writes what is meant")
  func bash() throws {
    guard let program = Programs.find("bash"), Programs.find("script") != nil else {
      return print("bash or script is not installed: bash's completion was not tried")
    }
    let lines = try type(
      in: "bash", program,
      script: #"""
        cat > $FOLDER/start <<'END'
        source $COMPLETIONS; PS1=
        bind -x '"\C-g": printf "%s|\n" "$READLINE_LINE" >> $FOLDER/shown; READLINE_LINE='
        touch $FOLDER/ready
        END
        touch $FOLDER/shown
        count=$(wc -l <<<"$LINES_TYPED")
        {
          printf 'source %s\n' $FOLDER/start
          for ((i = 0; i < 600; i++)); do [[ -e $FOLDER/ready ]] && break; sleep 0.1; done
          while IFS= read -r line; do printf '%s\t\a' "$line"; done <<<"$LINES_TYPED"
          for ((i = 0; i < 600; i++)); do
            (( $(wc -l < $FOLDER/shown) >= count )) && break
            sleep 0.1
          done
          printf 'exit\n'
        } | script -qec 'bash --norc -i' /dev/null > /dev/null
        cat $FOLDER/shown
        """#)
    #expect(lines == Self.typed.map { $0.1 + "|" })
  }

  @Test("fish completes to what is meant")
  func fish() throws {
    guard let program = Programs.find("fish") else {
      return print("fish is not installed: its completion was not tried")
    }
    let lines = try type(
      in: "fish", program,
      script: #"""
        source $COMPLETIONS
        for line in (string split \n -- $LINES_TYPED)
          set -l before (string replace -r '[^ ]*$' '' -- $line)
          for found in (complete -C $line)
            echo $before(string split \t -- $found)[1]'|'
          end
        end
        """#)
    // What fish lists has no space after it; the shell adds that where it writes.
    #expect(lines == Self.typed.map { String($0.1.trimmingSuffix(" ")) + "|" })
  }
}

extension String {
  fileprivate func trimmingSuffix(_ suffix: Character) -> Substring {
    last == suffix ? dropLast() : self[...]
  }
}
