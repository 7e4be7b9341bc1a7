#!/usr/bin/env python3
"""River's drift detectors brought to a stated ARL0, then on 100 + 100 values: found, delay, updates per second. Prints JSON."""
import argparse
import json
import math
import random
import statistics
import sys
import time

import numpy
import river
from river import drift

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--arl0", type=float, default=10000, help="values between false alarms")
parser.add_argument("--events", type=int, default=500000, help="quiet values for each setting that is tried")
parser.add_argument("--trials", type=int, default=1000)
parser.add_argument("--kswin-trials", type=int, default=100, help="KSWIN takes a millisecond a value")
options = parser.parse_args()
LENGTH = 500  # of a quiet stream: a user's
STREAMS = {
    "rate .2 to .5": (lambda r: float(r.random() < .2), lambda r: float(r.random() < .5)),
    "rate .2 to .4": (lambda r: float(r.random() < .2), lambda r: float(r.random() < .4)),
    "mean + 0.5 sigma": (lambda r: r.gauss(0, 1), lambda r: r.gauss(.5, 1)),
    "mean + 1 sigma": (lambda r: r.gauss(0, 1), lambda r: r.gauss(1, 1)),
    "mean + 2 sigma": (lambda r: r.gauss(0, 1), lambda r: r.gauss(2, 1)),
}


def arl0(make, draw, seed):
    """Values per alarm over many short quiet streams."""
    r, alarms, count = random.Random(seed), 0, options.events // LENGTH
    for _ in range(count):
        detector = make()
        for _ in range(LENGTH):
            detector.update(draw(r))
            alarms += detector.drift_detected
    return count * LENGTH / max(alarms, .5)


def tuned(make, draw, low, high, seed):
    """The logarithm of a parameter, between low (many alarms) and high (few), at which ARL0 is as stated."""
    for _ in range(8):
        middle = (low + high) / 2
        if arl0(lambda: make(math.exp(middle)), draw, seed) < options.arl0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def kswin_alpha(is_rate):
    """KSWIN's alpha: the p-value of the smallest difference that alarms no more often than stated.

    Its statistic has few values, so ARL0 cannot be met exactly. Simulated here for all streams at once: River's own
    takes a millisecond a value. Window 100, sample 30."""
    from scipy import stats
    rng, streams, steps = numpy.random.default_rng(5), 4000, 400
    values = rng.random((streams, steps)) < .2 if is_rate else rng.normal(size=(streams, steps))
    values = values.astype(float)
    crossings = numpy.zeros(31)
    highest = numpy.zeros(streams, int)
    for end in range(100, steps + 1):
        window = values[:, end - 100:end]
        chosen = numpy.argsort(rng.random((streams, 70)), axis=1)[:, :30]
        both = numpy.concatenate([numpy.take_along_axis(window[:, :70], chosen, 1), window[:, 70:]], axis=1)
        order = numpy.argsort(both, axis=1, kind="stable")
        steps_up = numpy.cumsum(numpy.where(order < 30, -1, 1), axis=1)
        ranked = numpy.take_along_axis(both, order, 1)
        last = numpy.concatenate([ranked[:, 1:] != ranked[:, :-1], numpy.ones((streams, 1), bool)], axis=1)
        difference = numpy.abs(numpy.where(last, steps_up, 0)).max(axis=1)
        # A first alarm at level h is at the first difference of h or more; what follows begins anew.
        for h in range(4, 31):
            crossings[h] += ((difference >= h) & (highest < h)).sum()
        highest = numpy.maximum(highest, difference)
    for h in range(4, 31):
        if streams * steps / max(crossings[h], .5) >= options.arl0:
            first = numpy.arange(30.)
            return float(stats.ks_2samp(first, first + h - .5).pvalue) * 1.0001
    return 0.0


def detect(make, before, after, trials, offset):
    delays, early = [], 0
    seconds = updates = 0
    for trial in range(trials):
        r = random.Random(1000 * offset + trial)
        values = [before(r) for _ in range(100)] + [after(r) for _ in range(100)]
        detector = make()
        start = time.perf_counter()
        for index, value in enumerate(values):
            detector.update(value)
            if detector.drift_detected:
                if index < 100:
                    early += 1
                    continue
                delays.append(index - 99)
                break
        seconds += time.perf_counter() - start
        updates += index + 1
    return {"detected": len(delays) / trials, "median_delay": statistics.median(delays) if delays else None,
            "early": early, "trials": trials, "updates_per_s": updates / seconds}


rows, settings = [], {}
for offset, (name, (before, after)) in enumerate(STREAMS.items()):
    is_rate = name.startswith("rate")
    if is_rate not in settings:
        print(f"River: settings for ARL0 {options.arl0:.0f} on {'rates' if is_rate else 'means'}", file=sys.stderr)
        delta = tuned(lambda d: drift.ADWIN(delta=1 / d, clock=1), before, math.log(1.01), math.log(1e6), 7)
        threshold = tuned(lambda t: drift.PageHinkley(threshold=t, delta=.1, min_instances=8), before, 0, math.log(200), 8)
        settings[is_rate] = {"ADWIN": {"delta": 1 / delta, "clock": 1},
                             "PageHinkley": {"threshold": threshold, "delta": .1, "min_instances": 8},
                             "KSWIN": {"alpha": kswin_alpha(is_rate)}}
    for detector, parameters in settings[is_rate].items():
        make = {"ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley, "KSWIN": lambda **p: drift.KSWIN(seed=1, **p)}[detector]
        trials = options.kswin_trials if detector == "KSWIN" else options.trials
        rows.append({"stream": name, "detector": detector, "parameters": parameters,
                     **detect(lambda: make(**parameters), before, after, trials, offset)})
print(json.dumps({"versions": {"river": river.__version__}, "rows": rows}))
