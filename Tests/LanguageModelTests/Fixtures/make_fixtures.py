#!/usr/bin/env python3
"""Makes tokens.jsonl, logits.json and blocks.json beside this file: what transformers and gguf compute.

    python3 make_fixtures.py --model SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers, gguf and numpy. The first line of tokens.jsonl and the key "made_with" of
the others name the versions. The same model and versions give the same files.
"""
import argparse
import importlib.metadata
import json
import os
import random

import gguf
import numpy
import tokenizers
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))

PROSE = """The river had been rising since Tuesday, and nobody in the village said so aloud.
"You're late," she said; he'd known it before the door opened. They'll never agree, I'm sure, we've tried.
It wasn't the first time that Dr. O'Neill's papers (all 1,204 of them!) went missing in transit...
A user's history tells more than a profile: what was read, liked, skipped, and written at 3 a.m.
Der Fluß stieg; über Nacht wurde aus dem Bächlein ein Strom. Ça n'a pas d'importance, n'est-ce pas ?
El niño comió piñas y jalapeños. Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
Children played while the orchestra rehearsed Mahler's Sixth, hammer blows and all.""".split("\n")
CODE = ["def f(x):\n    return x**2 + 3*x - 1\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i] * b[i];\n\t}",
        "SELECT id, name FROM users WHERE created_at >= '2024-01-01' ORDER BY 2 DESC;", "let x = try? JSONDecoder().decode([String: Int].self, from: data)",
        "<div class=\"row\">\n  <p>Hello&nbsp;World</p>\n</div>\n", "#!/bin/sh\nset -eu\nfind . -name '*.swift' | xargs wc -l\n",
        "{\"key\": [1, 2.5, -3e10, null, true]}", "if a<=b&&c!=d||!e{return}//done", "\\frac{a}{b} = \\sum_{i=0}^{\\infty} x_i^2", "x\t=\t1\r\ny\t=\t2\r\n"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "🔥🔥🔥", "🏳️‍🌈", "☃", "✈️", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "🫠"]
CJK = ["今天天气很好，我们去公园吧。", "東京都渋谷区で会いましょう。", "한국어 문장은 띄어쓰기가 있다.", "繁體中文與简体中文", "ｶﾀｶﾅ と ひらがな と 漢字", "１２３４５", "㊗㈱"]
RTL = ["مرحبا بالعالم، كيف حالك اليوم؟", "שלום עולם, מה שלומך?", "۱۲۳۴۵ عدد", "اردو میں لکھا ہوا جملہ", "\u200fabc\u200e אבג"]
OTHER = ["नमस्ते दुनिया", "สวัสดีชาวโลก", "Xin chào thế giới", "e\u0301 vs é", "n\u0303", "ⅷ Ⅻ ½ ² ³ ₄ ٣ ৪", "a\u00a0b\u2003c\u3000d\u1680e\u2028f\u2029g\u202fh\u205fi", "\u200b\u200d\ufeff", "ﬁ ﬂ ß ẞ ǅ ʰ ˀ", "𐍈 𒀀 𓀀 𝟘𝟙", "\u0378 \ue000 \U000f0000"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<jupyter_code>", "<empty_output>", "<|im_start", "<|", "im_end|>", "<<|im_end|>>"]


def texts():
    """500 texts, always the same."""
    random_ = random.Random(20240204)
    made = ["", " ", "  ", "\n", "\n\n", " \n ", "\t\t\t", "a", "'", "'s", " 's", "I'LL i'll we'Re don''t", "\u0000", "".join(map(chr, range(32))), "\x7f\x80\x85\x9f\xa0\xad"]
    made += PROSE + CODE + EMOJI + CJK + RTL + OTHER + SPECIAL
    made += ["".join(random_.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(n)) for n in (25, 60, 300, 2500)]
    made += ["a" * 1000, "ab" * 700, "é" * 300, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "0" * 200, "!" * 150, " " * 120 + "x", "\n" * 50 + "1", "=" * 77]
    made += ["0123456789", "3.14159 1,000,000 1e-10 0xFF", "1. one\n2. two\n\n3. three", "a  12", "page   7", "\n\n1", "2024-12-31T23:59:59Z", "+49 (0)30 1234-567", "v1.2.3-rc4", "x1y2z3"]
    pools = [PROSE, CODE, EMOJI, CJK, RTL, OTHER, SPECIAL, [str(n * n * 7919) for n in range(40)]]
    joins = ["", " ", "  ", "\n", "\n\n", ", ", "\t", " - ", "   \n  ", "'"]
    while len(made) < 430:
        parts = []
        for _ in range(random_.randint(1, 4)):
            text = random_.choice(random_.choice(pools))
            if random_.random() < 0.6:
                a = random_.randrange(len(text))
                text = text[a:a + random_.randint(1, 40)]
            parts.append(text)
        made.append(random_.choice(joins).join(parts))
    while len(made) < 500:
        ranges = [(0, 0x7f), (0x80, 0x7ff), (0x800, 0xd7ff), (0xe000, 0xffff), (0x10000, 0x1ffff)]
        made.append("".join(chr(random_.randint(*random_.choice(ranges))) if random_.random() < 0.5 else random_.choice(" aE1.'\n") for _ in range(random_.randint(1, 30))))
    return made


def versions():
    return {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "gguf": importlib.metadata.version("gguf"), "numpy": numpy.__version__}


def tokens(tokenizer, model):
    rows = [{"text": text, "ids": tokenizer(text).input_ids} for text in texts()]
    backend = tokenizer.backend_tokenizer
    kept = backend.pre_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    for row in rows:
        ids = backend.encode(row["text"]).ids
        if ids != row["ids"]:
            row["digits_first_ids"] = ids
    backend.pre_tokenizer = kept
    for row in rows:
        row["decoded"] = tokenizer.decode(row["ids"], clean_up_tokenization_spaces=False)
        if row["decoded"] == row["text"]:
            del row["decoded"]
    with open(os.path.join(HERE, "tokens.jsonl"), "w", encoding="utf-8") as out:
        out.write(json.dumps({"made_with": versions(), "model": os.path.basename(model), "digits_first_ids": "ids with the pre-tokenizer of SmolLM2's tokenizer.json, where they differ"}) + "\n")
        for row in rows:
            out.write(json.dumps(row, separators=(",", ":")) + "\n")


LOGIT_TEXTS = [
    "The capital of France is", "Once upon a time, in a village by the sea, there lived a", "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "<|im_start|>user\nWhat is the boiling point of water?<|im_end|>\n<|im_start|>assistant\n", "1 2 3 4 5 6 7 8", "E = mc^2 is the equation that",
    "Movie: A thief who steals corporate secrets through dreams is given the inverse task of planting an idea. Tags:", "Dear Sir or Madam,\n\nI am writing to",
    "The quick brown fox jumps over the lazy dog. " * 6, "SELECT name, COUNT(*) FROM users GROUP BY", "Der schnelle braune Fuchs springt über den", "😀 means happy, 😢 means",
    "In 1969, Neil Armstrong", "Ingredients:\n- 2 cups flour\n- 1 cup sugar\n- 3 eggs\n\nInstructions:\n1.", "Roses are red, violets are blue,", "Q: Who wrote Hamlet?\nA:",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nWrite a headline about a cat who became mayor.<|im_end|>\n<|im_start|>assistant\n",
    "今天天气很好，", "A", "Review: The food was cold and the waiter ignored us for an hour. Rating (1-5):"]


def logits(model, tokenizer, path):
    rows = []
    with torch.no_grad():
        for text in LOGIT_TEXTS:
            ids = tokenizer(text, return_tensors="pt").input_ids
            all_logits = model(ids).logits[0].float()
            last = all_logits[-1]
            losses = torch.nn.functional.cross_entropy(all_logits[:-1], ids[0, 1:], reduction="none") if ids.shape[1] > 1 else torch.zeros(0)
            top = torch.topk(last, 5)
            step = model(ids, use_cache=True)
            greedy = []
            for _ in range(32):  # plain greedy decoding: it does not stop at the end of text
                greedy.append(int(step.logits[0, -1].argmax()))
                step = model(torch.tensor([[greedy[-1]]]), past_key_values=step.past_key_values, use_cache=True)
            rows.append({"text": text, "ids": ids[0].tolist(), "losses": [round(float(v), 5) for v in losses],
                         "sampled_logits": [round(float(v), 4) for v in last[::96]], "top": [[int(i), round(float(v), 5)] for i, v in zip(top.indices, top.values)],
                         "mean": float(last.mean()), "std": float(last.std()), "greedy": greedy})
    with open(os.path.join(HERE, "logits.json"), "w", encoding="utf-8") as out:
        json.dump({"made_with": versions(), "model": os.path.basename(path), "sampled_logits": "the last position's logits of ids 0, 96, 192, ...", "rows": rows}, out, separators=(",", ":"))


def blocks():
    """Random bytes of every block type and the weights that the gguf package makes of them."""
    random_ = numpy.random.default_rng(7)
    made = {}
    for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q5_0", "Q5_1", "Q5_K"]:
        kind = gguf.GGMLQuantizationType[name]
        length, size = gguf.GGML_QUANT_SIZES[kind]
        data = random_.integers(0, 256, (2, size * (256 // length)), dtype=numpy.uint8)
        halves = {"F16": range(0, 512, 2), "Q8_0": range(0, data.shape[1], 34), "Q4_0": range(0, data.shape[1], 18),
                  "Q4_1": [o + d for o in range(0, data.shape[1], 20) for d in (0, 2)], "Q5_0": range(0, data.shape[1], 22),
                  "Q5_1": [o + d for o in range(0, data.shape[1], 24) for d in (0, 2)], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "BF16": []}[name]
        for row in data:  # scales that are numbers, of both signs and some subnormal
            for offset in halves:
                scale = numpy.float16(random_.normal() * (1e-6 if random_.random() < 0.1 else 0.1))
                row[offset:offset + 2] = numpy.frombuffer(scale.tobytes(), dtype=numpy.uint8)
            if name == "BF16":
                for offset in range(0, 512, 2):
                    bits = numpy.float32(random_.normal()).view(numpy.uint32) >> 16
                    row[offset], row[offset + 1] = bits & 255, bits >> 8
        weights = gguf.quants.dequantize(data, kind).astype(numpy.float32)
        made[name] = {"bytes": data.tobytes().hex(), "weights": [float(f"{v:.8g}") for v in weights.flatten()]}
    with open(os.path.join(HERE, "blocks.json"), "w", encoding="utf-8") as out:
        json.dump({"made_with": versions(), "rows": 2, "columns": 256, "types": made}, out, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--only", choices=["tokens", "logits", "blocks"])
    args = parser.parse_args()
    folder, name = os.path.split(os.path.abspath(args.model))
    if args.only in (None, "blocks"):
        blocks()
    if args.only in (None, "tokens", "logits"):
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        if args.only in (None, "tokens"):
            tokens(tokenizer, args.model)
        if args.only in (None, "logits"):
            model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
            model.eval()
            logits(model, tokenizer, args.model)


if __name__ == "__main__":
    main()
