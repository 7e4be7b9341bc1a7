// What bash, zsh and fish load to complete a program's words.

enum CompletionScript {
  /// The script for a shell; nil for one that is not known.
  static func script(for shell: String, program: String) -> String? {
    guard let script = ["bash": bash, "zsh": zsh, "fish": fish][shell] else { return nil }
    let name = program.split(separator: "/").last.map(String.init) ?? program
    let function = "_" + name.map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
    return script.replacing("PROGRAM", with: name).replacing("FUNCTION", with: function)
  }

  /// bash splits words at `=` and `:`, and replaces only the part after the last of them.
  private static let bash = #"""
    # bash completion for PROGRAM: source this, or put it into bash-completion's folder.
    FUNCTION() {
      local word joins='' count=0 current typed kind extensions value extension
      local -a words=()
      for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ $count -gt 0 && ( $word == [=:] || -n $joins ) ]]; then
          words[count-1]+=$word
        else
          words[count++]=$word
        fi
        joins=''
        [[ $word == [=:] ]] && joins=1
      done
      current=${COMP_WORDS[COMP_CWORD]}
      [[ $current == [=:] ]] && current=''
      typed=${words[count-1]}
      [[ $typed == --*=* ]] && typed=${typed#*=}
      COMPREPLY=()
      {
        read -r kind extensions
        while IFS=$'\t' read -r value _; do
          [[ $value == *= ]] && compopt -o nospace
          printf -v value %q "${value:${#typed}-${#current}}"
          COMPREPLY+=("$value")
        done
      } < <("${COMP_WORDS[0]/#\~/$HOME}" ---completion "${words[@]}" 2>/dev/null)
      [[ $kind == file || $kind == directory ]] || return
      compopt -o filenames
      typed=$(compgen -d -- "$current")
      [[ $kind == file && -z $extensions ]] && typed=$(compgen -f -- "$current")
      for extension in $extensions; do
        typed+=$'\n'$(compgen -f -X "!*.$extension" -- "$current")
      done
      while IFS= read -r value; do [[ -n $value ]] && COMPREPLY+=("$value"); done <<<"$typed"
    }
    complete -F FUNCTION PROGRAM
    """#

  private static let zsh = #"""
    #compdef PROGRAM
    # zsh completion for PROGRAM: source this, or put it as _PROGRAM into a folder of fpath.
    FUNCTION() {
      local -a lines closed open extensions
      local line entry
      lines=("${(@f)$("${(Q)words[1]/#\~/$HOME}" ---completion \
        "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
      [[ $PREFIX == --*=* ]] && compset -P 1 '*='
      for line in "${(@)lines[2,-1]}"; do
        entry=${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}
        if [[ $line == *=$'\t'* ]]; then open+=("$entry"); else closed+=("$entry"); fi
      done
      (( $#closed )) && _describe PROGRAM closed
      (( $#open )) && _describe PROGRAM open -S ''
      case $lines[1] in
      file) _files ;;
      file\ *)
        extensions=(${(s: :)lines[1]#* })
        _files -g "*.(${(j:|:)extensions})(-.)"
        ;;
      directory) _files -/ ;;
      esac
    }
    if [[ $funcstack[1] == _PROGRAM ]]; then FUNCTION "$@"; else compdef FUNCTION PROGRAM; fi
    """#

  private static let fish = #"""
    # fish completion for PROGRAM: source this, or put it into fish's folder of completions.
    function FUNCTION
      set -l words (commandline -opc)
      set -l current (commandline -ct)
      set -l program (string replace -r '^~' $HOME -- $words[1])
      set -e words[1]
      set -l lines ($program ---completion $words "$current" 2>/dev/null)
      set -l kind (string split ' ' -- $lines[1])
      set -e lines[1]
      set -l before (string match -r -- '^--[^=]*=' "$current")
      set -l typed (string replace -r -- '^--[^=]*=' '' "$current")
      switch "$kind[1]"
      case file
        set -l endings '\.'(string escape --style=regex -- $kind[2..])'$'
        for path in (__fish_complete_path "$typed")
          set -l name (string split \t -- $path)[1]
          if test (count $kind) -eq 1; or string match -qr (string join '|' '/$' $endings) -- $name
            set -a lines $path
          end
        end
      case directory
        set -a lines (__fish_complete_directories "$typed" '')
      end
      for line in $lines
        echo "$before$line"
      end
    end
    complete -c PROGRAM -f -k -a '(FUNCTION)'
    """#
}
