#!/usr/bin/env python3
"""Writes bm25.json and metrics.json beside this file with the reference implementations.

Needs rank_bm25, rouge_score, scikit-learn: the versions used stand in the files.
"""
import importlib.metadata
import json
import pathlib
import random

from rank_bm25 import BM25Okapi
from rouge_score import rouge_scorer
from sklearn.metrics import f1_score, mean_absolute_error, mean_squared_error

folder = pathlib.Path(__file__).parent
rng = random.Random(7)
versions = {name: importlib.metadata.version(name)
            for name in ("rank_bm25", "rouge_score", "scikit-learn")}

# A small vocabulary makes common words, whose plain idf is negative.
words = ["the", "a", "River", "house", "Night", "train", "of", "ice", "Léa", "naïve", "42", "x-ray",
         "garden", "THE", "light", "song", "it's", "東京"]
cases = []
for size in (1, 2, 5, 30):
    weights = [1 / (1 + i) for i in range(len(words))]
    documents = [" ".join(rng.choices(words, weights, k=rng.randint(1, 12))) for _ in range(size)]
    index = BM25Okapi([d.lower().split() for d in documents])
    queries = [" ".join(rng.choices(words + ["unseen"], k=rng.randint(1, 6))) for _ in range(5)]
    cases.append({"documents": documents, "queries": [
        {"query": q, "scores": list(map(float, index.get_scores(q.lower().split())))}
        for q in queries]})
(folder / "bm25.json").write_text(json.dumps({"versions": versions, "cases": cases}, indent=1))

scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
pairs = [("The cat sat on the mat", "the cat is on the mat"), ("", "something"), ("same", "same"),
         ("It's 42% naïve — Léa's plan_b!", "it s 42 naive lea plan b"), ("no overlap", "at all"),
         ("a a a b", "a b b a"), ("running runs", "run running")]
for _ in range(20):
    pairs.append((" ".join(rng.choices(words, k=rng.randint(1, 10))),
                  " ".join(rng.choices(words, k=rng.randint(1, 10)))))
rouge = []
for prediction, gold in pairs:
    score = scorer.score(gold, prediction)
    rouge.append({"prediction": prediction, "gold": gold, "rouge_1": score["rouge1"].fmeasure,
                  "rouge_l": score["rougeL"].fmeasure})
labels = ["a", "b", "c", "never"]
golds = rng.choices(labels[:3], k=40)
found = [g if rng.random() < .6 else rng.choice(labels[:3] + ["other"]) for g in golds]
number = lambda label: labels.index(label) if label in labels else -1
f1 = f1_score(list(map(number, golds)), list(map(number, found)), labels=list(range(len(labels))),
              average="macro", zero_division=0)
ratings = [(rng.randint(1, 5), rng.choice([1, 2, 3, 4, 5, None])) for _ in range(30)]
far = lambda gold: 1.0 if abs(1 - gold) > abs(5 - gold) else 5.0
g = [float(gold) for gold, _ in ratings]
p = [float(found) if found else far(gold) for gold, found in ratings]
(folder / "metrics.json").write_text(json.dumps({
    "versions": versions, "rouge": rouge,
    "labels": {"labels": labels, "golds": golds, "predictions": found, "macro_f1": f1},
    "ratings": {"golds": [str(gold) for gold, _ in ratings],
                "predictions": [str(found) if found else None for _, found in ratings],
                "mae": mean_absolute_error(g, p), "rmse": mean_squared_error(g, p) ** .5}},
    indent=1))
