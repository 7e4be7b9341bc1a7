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
from documents import ESCAPES, HAND, WORDS
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


def main():
    seed, count = 20261128, 300
    writer, r = Writer(seed), random.Random(seed)
    texts = HAND + [writer.document() for _ in range(count)]
    texts += [mutated(r, writer.document()) for _ in range(count // 3)]
    entries = [entry(t) for t in dict.fromkeys(texts)]
    head = {"ruamel.yaml": ruamel.yaml.__version__, "python": sys.version.split()[0], "seed": seed}
    lines = ",\n".join(json.dumps(e) for e in entries)
    path = Path(__file__).with_name("reference.json")
    text = json.dumps(head)[:-1] + ', "documents": [\n' + lines + "\n]}\n"
    path.write_text(text, encoding="utf-8")
    print(len(entries), "documents,", sum("read" in e for e in entries), "accepted by ruamel.yaml")


if __name__ == "__main__":
    main()
