#!/usr/bin/env python3
"""Writes reference.json: YAML documents with what ruamel.yaml reads of them.

    pip install ruamel.yaml==0.19.1
    python3 make_reference.py            # writes reference.json beside this file

ruamel.yaml's pure parser reads the text; what plain scalars are is decided here by the regular
expressions of the core schema (YAML 1.2.2, chapter 10.3.2), because ruamel.yaml has more types
(timestamps, 0b1, 1_000). Where its own types give something else, that is kept as "own".
"""
import json, random, re, struct, sys, warnings
from pathlib import Path

import ruamel.yaml
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

warnings.simplefilter("ignore")
CORE = "tag:yaml.org,2002:"
SCHEMA = [
    ("null", r"null|Null|NULL|~|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
              r"|\.nan|\.NaN|\.NAN"),
]


class Refused(Exception):
    pass


def plain(text):
    return next((t for t, e in SCHEMA if re.fullmatch(e, text)), "str")


class CoreResolver(VersionedResolver):
    def resolve(self, kind, value, implicit):
        from ruamel.yaml.tag import Tag
        if kind is ScalarNode:
            name = plain(value) if implicit[0] else "str"
        else:
            name = "seq" if kind is SequenceNode else "map"
        return Tag(suffix=CORE + name)


def value(name, text):
    """A scalar as type and exact value; floats as the bits of their doubles."""
    if name == "str":
        return ["str", text]
    found = plain(text)
    if name == "float" and found == "int" and text[:2] not in ("0x", "0o"):
        found = "float"
    if found != name:
        raise Refused(f"{text} under !!{name}")
    if name == "null":
        return ["null"]
    if name == "bool":
        return ["bool", text.lower()]
    if name == "int":
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        return ["int", str(int(text, base))]
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return ["float", "nan" if number != number else struct.pack(">d", number).hex()]


def tagged(node, above=()):
    if id(node) in above:
        raise Refused("a cycle")
    above = above + (id(node),)
    tag = str(node.tag)
    if tag == "!":
        tag = CORE + ("str" if isinstance(node, ScalarNode) else
                      "seq" if isinstance(node, SequenceNode) else "map")
    if not tag.startswith(CORE):
        raise Refused("tag " + tag)
    name = tag[len(CORE):]
    if isinstance(node, ScalarNode):
        if name not in ("null", "bool", "int", "float", "str"):
            raise Refused("tag " + tag)
        return value(name, node.value)
    if isinstance(node, SequenceNode):
        if name != "seq":
            raise Refused("tag " + tag)
        return ["seq"] + [tagged(item, above) for item in node.value]
    if name != "map":
        raise Refused("tag " + tag)
    entries, seen = [], set()
    for key, item in node.value:
        if not isinstance(key, ScalarNode):
            raise Refused("a key that is no scalar")
        if key.value == "<<" and key.style is None:
            raise Refused("a merge key")
        read = tagged(key, above)
        if str(read) in seen:
            raise Refused("a key twice")
        seen.add(str(read))
        entries.append([read, tagged(item, above)])
    return ["map"] + entries


def of_python(object):
    """What ruamel.yaml's own types are."""
    if object is None:
        return ["null"]
    if isinstance(object, bool):
        return ["bool", str(object).lower()]
    if isinstance(object, int):
        return ["int", str(object)]
    if isinstance(object, float):
        return ["float", "nan" if object != object else struct.pack(">d", object).hex()]
    if isinstance(object, str):
        return ["str", object]
    if isinstance(object, list):
        return ["seq"] + [of_python(item) for item in object]
    if isinstance(object, dict):
        return ["map"] + [[of_python(k), of_python(v)] for k, v in object.items()]
    return ["other", str(object)]


def read(text):
    """The tagged reading, or None for no value, or a Refused."""
    if re.match(r"\ufeff?%YAML 1\.1", text):
        raise Refused("YAML 1.1")
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = CoreResolver
    try:
        node = yaml.compose(text)
    except (ruamel.yaml.error.YAMLError, ValueError, RecursionError, AttributeError, TypeError,
            IndexError, NotImplementedError, AssertionError, KeyError) as error:
        raise Refused(f"ruamel.yaml: {type(error).__name__}")
    if node is None:
        return None
    result = tagged(node)
    if isinstance(node, ScalarNode) and node.value == "" and result == ["null"]:
        return None
    return result


def entry(text):
    try:
        made = {"text": text, "read": read(text)}
    except Refused as refused:
        return {"text": text, "refused": str(refused)}
    try:
        own = of_python(YAML(typ="safe", pure=True).load(text))
        own = None if own == ["null"] and made["read"] is None else own
    except Exception as error:
        own = ["error", type(error).__name__]
    if own != made["read"]:
        made["own"] = own
    return made


WORDS = ["a", "b1", "word", "two words", "é", "日本語", "😀", "x:y", "a#b", "http://x/y?z=1", "-x", "?x",
         ":x", "it's", 'say "hi"', "no", "on", "yes", "null", "~", "true", "False", "1", "0", "-7",
         "+5", "007", "0x1F", "0o17", "0b1", "1_000", "1:30", "1.5", ".5", "5.", "-1e3", "1e400",
         ".inf", "-.INF", ".nan", "99999999999999999999", "2001-12-14", "=", "a, b", "[x", "x]",
         "{y", "a: b", "e\u0301", "\u00a0x", "- y", "a -b", "%x", "@", "`", "!x", "|x",
         ">", "&", "*", "a !b", "a &b", "1.2.3", "+", "-", ".", "..", "...", "---", "-.", "0x",
         "0o8", "1e", "\\", "a\\n", "$", "^", "end "]
ESCAPES = ["\\0", "\\a", "\\b", "\\t", "\\n", "\\v", "\\f", "\\r", "\\e", '\\"', "\\/", "\\\\",
           "\\N", "\\_", "\\L", "\\P", "\\x41", "\\u263A", "\\U0001F600", "\\ ", "\\\t"]


class Writer:
    """Random documents, nearly all of them well made."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.anchors = []

    def document(self):
        r, self.anchors = self.r, []
        text = self.node(0, r.choice([0, 1, 2, 2, 3, 4]), -1)
        if r.random() < 0.08:
            text = "--- " + text if not text.startswith("\n") else "---" + text
        if r.random() < 0.05:
            text = r.choice(["# note\n", "%YAML 1.2\n---\n", "\n\n", "\ufeff", "---\n"]) + text.lstrip("\n")
        text += r.choice(["", "\n", "\n\n", "\n# end\n", "\n...\n", " # c\n"])
        if r.random() < 0.05:
            text = text.replace("\n", r.choice(["\r\n", "\r"]))
        return text.lstrip("\n") if r.random() < 0.9 else text

    def properties(self, kind):
        r, text = self.r, ""
        if r.random() < 0.06:
            name = r.choice(["x", "y", "anchor-1", "b_2"])
            text += "&" + name + " "
            self.anchors.append(name)
        if r.random() < 0.06:
            tag = r.choice({"scalar": ["!!str", "!!str", "!!int", "!!float", "!!bool", "!!null",
                                       "!<tag:yaml.org,2002:str>", "!own"],
                            "seq": ["!!seq"], "map": ["!!map"]}[kind])
            text = r.choice([text + tag + " ", tag + " " + text])
        return text

    def node(self, indent, depth, parent):
        """What follows `key:`, `-` or nothing, with its own line break where it needs one."""
        r = self.r
        kind = r.choice(["scalar", "scalar", "seq", "map", "flow"]) if depth else "scalar"
        if self.anchors and r.random() < 0.04:
            return "*" + r.choice(self.anchors) + " "
        if kind == "scalar":
            return self.scalar(indent, parent)
        if kind == "flow":
            return self.flow(indent, depth)
        space = " " * indent
        lines = []
        step = r.choice([1, 2, 2, 2, 4])
        for number in range(r.randint(1, 4)):
            if r.random() < 0.08:
                lines.append(r.choice(["", "# comment", space + "# comment", "   "]))
            inner = indent + step
            if kind == "seq":
                item = self.node(inner, depth - 1, indent)
                if item.startswith("\n") and r.random() < 0.5 and "!" not in item and "&" not in item:
                    item = item.lstrip("\n")
                    body = space + "-" + " " * (step - 1 if step > 1 else 1)
                    if step > 1 and not item.lstrip(" ").startswith("#"):
                        lines.append(body + item.lstrip(" ") if "\n" not in item else body + item[inner:])
                        continue
                    item = "\n" + item
                lines.append(space + "-" + (item if item.startswith("\n") or not item else " " + item))
            else:
                item = self.node(inner, depth - 1, indent)
                key = self.key()
                gap = r.choice(["", "", "", " "])
                if r.random() < 0.04:
                    lines.append(space + "? " + key)
                    lines.append(space + ":" + (item if item.startswith("\n") else " " + item))
                else:
                    lines.append(
                        space + key + gap + ":" + (item if item.startswith("\n") or not item else " " + item))
        return self.properties(kind).rstrip() + "\n" + "\n".join(lines)

    def key(self):
        r = self.r
        text = r.choice(WORDS + ["k", "name", "title", "key 2", "k3", "k4", "k5"] * 6)
        form = r.random()
        if form < 0.12:
            return "'" + text.replace("'", "''") + "'"
        if form < 0.24:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return text

    def scalar(self, indent, parent):
        r = self.r
        form = r.random()
        if form < 0.05:
            return self.properties("scalar") if r.random() < 0.3 else ""
        head = self.properties("scalar")
        pad = " " * max(indent, 1)

        def fold(words, gap=" "):
            text = words[0]
            for word in words[1:]:
                text += r.choice([gap] * 3 + ["\n" + pad, "\n\n" + pad, " \n" + pad + " "]) + word
            return text
        words = [r.choice(WORDS) for _ in range(r.randint(1, 5))]
        if form < 0.4:
            return head + (fold(words) if r.random() < 0.4 else words[0]) + r.choice(["", "", " # c"])
        if form < 0.52:
            return head + "'" + fold([w.replace("'", "''") for w in words]) + "'"
        if form < 0.68:
            parts = [r.choice(ESCAPES) if r.random() < 0.3 else
                     w.replace("\\", "\\\\").replace('"', '\\"') for w in words]
            if r.random() < 0.2:
                parts.insert(1, "\\\n" + pad + r.choice(["", "\\ ", "  "]))
            return head + '"' + fold(parts, r.choice(["", " ", "  "])) + '"'
        if form < 0.9:
            body = parent + 1 + r.choice([0, 1, 1, 2, 3])
            body = max(body, 1)
            lines = []
            for _ in range(r.randint(0, 5)):
                lines.append(r.choice(["", "", " ", " " * body]) if r.random() < 0.25 else
                             " " * body + r.choice(["", "", "", " ", "\t"]) + r.choice(WORDS))
            header = r.choice("|>") + r.choice(["", "", "-", "+"])
            if r.random() < 0.15:
                number = str(body - max(parent, 0))
                header = header[0] + r.choice([number + header[1:], header[1:] + number])
            return head + header + r.choice(["", "", " # c", " "]) + "".join("\n" + l for l in lines) \
                + r.choice(["", "\n", "\n\n"])
        return head + self.flow(indent, 1)

    def flow(self, indent, depth):
        r = self.r
        pad = "\n" + " " * (indent + 1)
        gap = lambda: r.choice(["", " ", " ", " ", pad])
        items = []
        isMap = r.random() < 0.5
        for _ in range(r.randint(0, 4)):
            if depth > 0 and r.random() < 0.3:
                item = self.flow(indent, depth - 1)
            else:
                word = r.choice(WORDS)
                form = r.random()
                item = ("'" + word.replace("'", "''") + "'" if form < 0.2 else
                        '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' if form < 0.4 else
                        word if not re.search(r"[\[\]{},]", word) else "w")
            if isMap:
                key = self.key()
                if re.search(r"[\[\]{},]", key) and key[0] not in "'\"":
                    key = "k"
                item = r.choice([key + ": " + item, key + ": " + item, key + " : " + item, key,
                                 key + ":", "? " + key + " : " + item,
                                 '"' + "q" + str(len(items)) + '":' + item])
            elif r.random() < 0.08:
                item = "p: " + item
            items.append(gap() + item + gap())
        text = ",".join(items) + ("," if items and r.random() < 0.1 else "")
        return "{" + text + "}" if isMap else "[" + text + "]"


def mutated(r, text):
    letters = list(text)
    for _ in range(r.randint(1, 3)):
        place = r.randint(0, len(letters))
        what = r.random()
        if what < 0.4 and letters:
            del letters[min(place, len(letters) - 1)]
        elif what < 0.8:
            letters.insert(place, r.choice(list(":-?,[]{}#&*!|>'\"%@` \n\n\t\\ab1~<=.") + ["  ", ": ", "- "]))
        elif letters:
            start = r.randint(0, len(letters) - 1)
            letters[place:place] = letters[start:start + r.randint(1, 8)]
    return "".join(letters)


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


def main():
    seed, count = 20261128, 300
    writer, r = Writer(seed), random.Random(seed)
    texts = HAND + [writer.document() for _ in range(count)]
    texts += [mutated(r, writer.document()) for _ in range(count // 3)]
    entries = [entry(t) for t in dict.fromkeys(texts)]
    result = {"ruamel.yaml": ruamel.yaml.__version__, "python": sys.version.split()[0],
              "seed": seed, "documents": entries}
    path = Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(result, indent=0) + "\n", encoding="utf-8")
    print(len(entries), "documents,", sum("read" in e for e in entries), "accepted by ruamel.yaml")


if __name__ == "__main__":
    main()
