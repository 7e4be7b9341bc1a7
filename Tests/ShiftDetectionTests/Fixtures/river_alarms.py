#!/usr/bin/env python3
"""Writes river_alarms.json: where River's ADWIN and Page-Hinkley alarm on fixed streams (pip install river==0.26.1).

Streams come from a congruential generator, so that they need not be stored: x = (6364136223846793005 x +
1442695040888963407) mod 2^64 from `seed`, u = (x >> 11) / 2^53. A value is u < rate as 0 or 1 (`bernoulli`), or the
sum of twelve u less 6, times `scale`, plus the level (`normal`). `levels` are pairs of a length and a rate or level."""
import json

import river
from river import drift


def values(stream):
    x = stream["seed"]

    def uniform():
        nonlocal x
        x = (6364136223846793005 * x + 1442695040888963407) % 2**64
        return (x >> 11) / 2**53

    for length, level in stream["levels"]:
        for _ in range(length):
            if stream["kind"] == "bernoulli":
                yield float(uniform() < level)
            else:
                total = 0.0
                for _ in range(12):
                    total += uniform()
                yield (total - 6) * stream["scale"] + level


streams = [
    {"kind": "bernoulli", "seed": 1, "levels": [[500, .2], [500, .5], [500, .1], [1500, .6]]},
    {"kind": "bernoulli", "seed": 2, "levels": [[100, .2], [100, .5], [300, .9], [2000, .89]]},
    {"kind": "normal", "seed": 3, "scale": 1.0, "levels": [[300, 0], [300, 1], [300, -1], [1000, 2], [1000, 2.2]]},
    {"kind": "normal", "seed": 4, "scale": 5.0, "levels": [[1000, 10], [1000, 13], [1000, 40], [1000, 39]]},
    {"kind": "normal", "seed": 5, "scale": .01, "levels": [[2000, 1], [1000, 1.02], [2000, .5]]},
    {"kind": "normal", "seed": 6, "scale": 1.0, "levels": [[20000, 0]]},
]
adwin = [{}, {"delta": .05, "clock": 1}, {"delta": .3, "clock": 1, "min_window_length": 2, "grace_period": 4},
         {"delta": .01, "clock": 7, "max_buckets": 2}, {"delta": .002, "clock": 3, "max_buckets": 9, "min_window_length": 20, "grace_period": 60}]
page_hinkley = [{}, {"threshold": 8.0, "delta": .1}, {"threshold": 5.0, "mode": "up", "min_instances": 5},
                {"threshold": 5.0, "mode": "down", "alpha": .99}, {"threshold": .5, "delta": .0, "alpha": .9, "min_instances": 1}]
cases = []
for name, make, variants in (("ADWIN", drift.ADWIN, adwin), ("PageHinkley", drift.PageHinkley, page_hinkley)):
    for parameters in variants:
        for number, stream in enumerate(streams):
            detector, alarms = make(**parameters), []
            for index, value in enumerate(values(stream)):
                detector.update(value)
                if detector.drift_detected:
                    alarms.append(index)
            cases.append({"detector": name, "parameters": parameters, "stream": number, "alarms": len(alarms),
                          "first_alarms": alarms[:40], "sum_of_alarms": sum(alarms)})
with open("river_alarms.json", "w") as file:
    file.write('{"river": %s,\n"streams": [\n' % json.dumps(river.__version__))
    file.write(",\n".join(json.dumps(s) for s in streams) + '],\n"cases": [\n')
    file.write(",\n".join(json.dumps(c) for c in cases) + "]}\n")
