#!/usr/bin/env python3
"""Writes bm25.json and metrics.json beside this file with the reference implementations.

Needs rank_bm25, rouge_score, scikit-learn: the versions used stand in the files.
"""
import importlib.metadata
import json
import math
import pathlib
import random

from rank_bm25 import BM25Okapi
from rouge_score import rouge_scorer
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

SEED = 7
folder = pathlib.Path(__file__).parent
rng = random.Random(SEED)
provenance = {
    "made by": "Tests/Fixtures/personalization/make.py", "seed": SEED,
    "versions": {name: importlib.metadata.version(name)
                 for name in ("rank_bm25", "rouge_score", "scikit-learn")}}
compact = lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def write(name, **parts):
    """One line for each row, so that a change can be read."""
    lines = [f'"{key}":[\n' + ",\n".join(map(compact, rows)) + "\n]" for key, rows in parts.items()]
    (folder / name).write_text("{" + ",\n".join([f'"provenance":{compact(provenance)}', *lines]) + "}\n")


# A small vocabulary makes common words, whose plain idf is negative.
words = ["the", "a", "River", "house", "Night", "train", "of", "ice", "Léa", "naïve", "42", "x-ray",
         "garden", "THE", "light", "song", "it's", "東京", "İzmir", "Straße"]
weights = [1 / (1 + i) for i in range(len(words))]
sentence = lambda most: " ".join(rng.choices(words, weights, k=rng.randint(1, most)))


def okapi(documents, queries):
    index = BM25Okapi([d.lower().split() for d in documents])
    return [{"query": q, "scores": [float(s) for s in index.get_scores(q.lower().split())]} for q in queries]


cases = []
for size in (1, 2, 5, 30):
    documents = [sentence(12) for _ in range(size)]
    queries = [" ".join(rng.choices(words + ["unseen"], k=rng.randint(1, 6))) for _ in range(5)]
    cases.append({"documents": documents, "queries": okapi(documents, queries)})
# The same documents twice: ties everywhere. Words in every document: a floor that is negative itself.
cases.append({"documents": ["river night", "ice", "river night", "ice", "night"] * 2,
              "queries": okapi(["river night", "ice", "river night", "ice", "night"] * 2, ["river", "night ice"])})
cases.append({"documents": ["the ice", "the  ice ice", "the ice\tthe"],
              "queries": okapi(["the ice", "the  ice ice", "the ice\tthe"], ["the", "ice ice ice", "the ice the"])})
# White space and lower case as Python has them.
odd = ["İ\u00a0i̇ x", "a\u2003b\x1cc", " \n ", "naïve\u0301 Σ", "K k ſ"]
cases.append({"documents": odd, "queries": okapi(odd, ["i̇ b c", "NAÏVE\u0301 k", "ſ σ"])})
# A growing index: after each document the scores of one query that repeats a word.
growing = [sentence(10) for _ in range(25)]
steps = [okapi(growing[:n], ["the river the night of 42"])[0] for n in range(1, len(growing) + 1)]
write("bm25.json", cases=cases, growing=[{"document": d, **s} for d, s in zip(growing, steps)])

# ROUGE: random word lists, and what makes tokenizers differ.
scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
awkward = ["", " ", "...", "—–…", "İstanbul", "istanbul", "i̇stanbul", "KELVIN K", "kelvin k", "ſharp sharp", "ﬁne fine",
           "Σίσυφος", "ǅ dž", "a_b a b", "a-b", "don't", "don t", "3.14", "3 14", "１２ 12", "x\u200by", "xy", "🙂 ok",
           "ok", "the the the", "the", "THE The tHe", "a\nb\tc", "a b c", "C++ C#", "c c", "naïve", "nai\u0308ve", "na ve",
           "ß SS ss", "ẞ", "running", "runs", "Ünïcödé", "\u0000a", "é", "e\u0301", "e", "東京 tokyo", "½ 1/2"]
pairs = [(rng.choice(awkward), rng.choice(awkward)) for _ in range(250)]
pairs += [(text, text) for text in awkward]
while len(pairs) < 1000:
    pool = rng.choice([words, words[:4], awkward + words])
    text = lambda: rng.choice(["", "", " ", "“", "- "]) + rng.choice([" ", "  ", ", "]).join(rng.choices(pool, k=rng.randint(0, 8)))
    pairs.append((text(), text()))
rouge = []
for prediction, gold in pairs:
    score = scorer.score(gold, prediction)
    rouge.append([prediction, gold, round(score["rouge1"].fmeasure, 9), round(score["rougeL"].fmeasure, 9)])

# Labels: some never occur, some answers are outside the list.
labels = []
names = ["sports", "style & beauty", "crime", "u.s. news", "never", "İ"]
for case in range(60):
    known = names[:rng.randint(2, len(names))]
    golds = rng.choices(known[:-1] or known, k=rng.choice([1, 2, 5, 20]))
    found = [g if rng.random() < .5 else rng.choice(known + ["other", "", "Sports", None]) for g in golds]
    index = lambda text: known.index(text) if text in known else -1
    g, p = list(map(index, golds)), list(map(index, found))
    labels.append({"labels": known, "golds": golds, "predictions": found, "accuracy": float(accuracy_score(g, p)),
                   "macro_f1": float(f1_score(g, p, labels=list(range(len(known))), average="macro", zero_division=0))})


def rating(text, gold):
    """A finite number, else the end of the scale farther from the gold."""
    try:
        value = float(text)
        if math.isfinite(value):
            return value
    except (TypeError, ValueError):
        pass
    return 1.0 if abs(1 - float(gold)) > abs(5 - float(gold)) else 5.0


ratings = []
answers = ["1", "2", "3", "4", "5", " 4 ", "3.0", "4.5", "+2", "-1", "5.", ".5", "1e0", "10", "1_0", "４", None, "", "five", "nan",
           "inf", "-Infinity", "0x3", "3 stars", "1__0", "_1", "1_", "1,5", "٣", "²", "e5", "1e", "1e400", "--1", "3\n", "\u00a03"]
for case in range(60):
    golds = [rng.choice(["1", "2", "3", "4", "5", "5.0"]) for _ in range(rng.choice([1, 3, 20]))]
    found = [rng.choice(answers) for _ in golds]
    g, p = list(map(float, golds)), [rating(f, gold) for f, gold in zip(found, golds)]
    ratings.append({"golds": golds, "predictions": found, "mae": float(mean_absolute_error(g, p)),
                    "rmse": float(mean_squared_error(g, p)) ** .5})
write("metrics.json", rouge=rouge, labels=labels, ratings=ratings)
