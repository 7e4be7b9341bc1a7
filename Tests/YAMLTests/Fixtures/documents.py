"""The words and documents that make_reference.py reads: each kind of scalar, style and refusal."""

WORDS = ["a", "b1", "word", "two words", "é", "日本語", "😀", "x:y", "a#b", "http://x/y?z=1", "-x", "?x",
         ":x", "it's", 'say "hi"', "no", "on", "yes", "null", "~", "true", "False", "1", "0", "-7",
         "+5", "007", "0x1F", "0o17", "0b1", "1_000", "1:30", "1.5", ".5", "5.", "-1e3", "1e400",
         ".inf", "-.INF", ".nan", "99999999999999999999", "2001-12-14", "=", "a, b", "[x", "x]",
         "{y", "a: b", "e\u0301", "\u00a0x", "- y", "a -b", "%x", "@", "`", "!x", "|x",
         ">", "&", "*", "a !b", "a &b", "1.2.3", "+", "-", ".", "..", "...", "---", "-.", "0x",
         "0o8", "1e", "\\", "a\\n", "$", "^", "end "]
ESCAPES = ["\\0", "\\a", "\\b", "\\t", "\\n", "\\v", "\\f", "\\r", "\\e", '\\"', "\\/", "\\\\",
           "\\N", "\\_", "\\L", "\\P", "\\x41", "\\u263A", "\\U0001F600", "\\ ", "\\\t"]

HAND = [
    # Plain scalars of each kind, quoted ones, and tags.
    *WORDS, *["'" + w.replace("'", "''") + "'" for w in WORDS[14:32]],
    *["!!str " + w for w in WORDS[14:32]], "!!int '7'", "!!float 7", "!!null ''", "!!bool 'true'",
    "!!int 1.5", "!!bool yes", "!!null x", "!!float 0x1", "!!seq [1]", "!!map {a: 1}", "!!set {a}",
    "!!seq {a: 1}", "!!str [a]", "!own x", "!!binary aGk=", "!!timestamp 2001-12-14", "! 5",
    "a: ! x", "%TAG !e! tag:yaml.org,2002:\n---\n!e!int 5", "!<tag:yaml.org,2002:int> 5",
    # Quoted scalars.
    '"' + "".join(e for e in ESCAPES) + '"', '"a\\\n  b"', '"a\n  b\n\n  c"', "'a\n  b\n\n\n  c'",
    '"a \\\n   \\ b"', "'it''s'", '"\\uD83D\\uDE00"', '"\\x4"', '"\\q"', "'a", '"a', "''", '""',
    # Block scalars: both styles, each chomping, indentation indicators.
    *[f"a: {s}{c}\n  x\n   y\n\n  z\n\n\nb: 1\n" for s in "|>" for c in ("", "-", "+")],
    *[f"a: {s}{c}\n" for s in "|>" for c in ("", "-", "+")],
    *[f"a: {s}2{c}\n    x\n   y\n\n" for s in "|>" for c in ("", "-", "+")],
    "a: >\n  x\n  y\n\n    more\n    more\n\n  z\n", "a: |0\n x\n", "a: |10\n x\n", "a: |x\n y\n",
    "a: | # c\n  # no comment\n  x\n # a comment\n", "- |\n a\n- >-\n  b\n  c\n", "|\n a\n b\n",
    "a: >\n\n\n  x\n", "a: >+\n  x\n\n\n", "a: |\n  \ttab\n", "|\na\n", "|\n# c\n", "a: |\n \n  b\n",
    # Multi-line plain scalars and comments.
    "a: b\n  c\n\n  d\ne: f # g\n# h\n", "a\nb\n\nc", "a: b # c\n  d\n", "a: b#c\n", "a #b\n", "# only",
    "a:# b", "a:b", "a: b: c", "- a\n-b", "a: - b", "a:\tb\n", "a: b\tc\n", "\ta: b\n", "a:\n\tb: c\n",
    # Flow collections.
    "[a, b, [c, {d: e}], ]", "{a, b: , c: 1}", "[a: 1, b]", "{? a : b, ? c}", '{"a":1}', "{a:1}",
    "[a,,b]", "[,]", "{,}", "[a b, c\n d]", "[a, # c\n b]", "[\n]", "{\n}", "[[[[]]]]", "[a", "{a: 1",
    "[a}", "[http://x:1/]", "{http://x: 1}", "[a]: b", "{a: [b]}: c", "[-1, - 1]", "[?a]", "{'a':b}",
    "[a:,b]", "{a:}", "[:a]", "{x: :a}", "[-]", "['a':1]", "[a\n]", "{a\n: b}", "[a,\nb]\n", "a: [b,\nc]",
    # Block collections and keys.
    "- a\n- - b\n  - c\n-\n  - d\n- e: f\n  g: h\n", "a:\n- b\n- c\nd:\n  - e\n", "? a\n: b\n? c\n",
    "a:\n  b:\n    c: d\n  e: f\n", "a:\n b: 1\n  c: 2\n", "a: 1\n b: 2\n", "- a\n b\n", "1: a\n'1': b\n",
    "true: a\nnull: b\n1.5: c\n", "? [a]\n: b\n", "? {a: b}\n: c\n", "? |\n  a\n: b\n", ": a\n", "'a': 1\n\"b\": 2",
    "a: 1\na: 2\n", "1: a\n0x1: b\n", "1: a\n1.0: b\n", "~: a\nnull: b\n", "a: {b: 1, b: 2}", "true: a\n1: b\n",
    "k" * 1024 + ": 1", "k" * 1025 + ": 1", "'" + "k" * 1100 + "': 1", "? " + "k" * 1100 + "\n: 1",
    # Anchors, aliases, merge keys.
    "a: &x 1\nb: *x\n", "a: &x [1, &y 2]\nb: [*x, *y]\n", "*x", "&x [*x]", "&x {a: *x}", "&x 1\n*x",
    "[&x a, *x, &x b, *x]", "&k a: *k", "a: &x\nb: *x", "[&x a, *x : b]", "<<: {a: 1}", "a: &x {b: 1}\nc:\n  <<: *x\n",
    "'<<': 1", "a: <<", "&ä b", "&x &y a", "& a", "* a", "&x\n- a\n", "&x - a", "a: &x !!str 1", "a: !!str &x 1",
    # Documents, directives, byte order marks, ends of lines.
    "", " ", "\n", "---", "---\n...\n", "--- a", "--- # c\na: 1\n", "---\na\n---\nb\n", "a\n...\n", "a\n...\nb\n",
    "a\n---\n", "%YAML 1.2\n---\na", "%YAML 1.1\n---\nno", "%YAML 1.3\n---\na", "%YAML 2.0\n---\na", "%FOO x\n---\na",
    "%YAML 1.2\na", "\ufeffa: 1", "\ufeff", "\ufeff\ufeffa", "a: \ufeffb", "a: 1\r\nb: |\r\n  x\r\n  y\r\n", "a: 1\rb: 2\r",
    "a: \u2028b", "a: \u0085b", "a: \x00", "a: \x07", "a: \x7f", "a: \u0080", "a: \uffff", "a: \ue000", "...", "....", "@a",
    "a: `b", "a: %b", "a: !", "-", "- ", "-\n-", "?", ":", "? ", "a: 'b' c", "a: \"b\" c", "a: [b] c", "a: 'b'c",
]
