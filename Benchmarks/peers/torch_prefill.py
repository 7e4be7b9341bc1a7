#!/usr/bin/env python3
"""Tokens per second of a prompt's forward pass with PyTorch and transformers. Prints JSON."""
import argparse
import json
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--threads", type=int, required=True)
options = parser.parse_args()
torch.set_num_threads(options.threads)
folder, name = os.path.split(os.path.abspath(options.model))
model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
ids = torch.arange(1000, 1000 + 7 * options.tokens, 7)[None, :]
best = float("inf")
with torch.inference_mode():
    for _ in range(5):
        start = time.perf_counter()
        model(ids, use_cache=True, logits_to_keep=1)
        best = min(best, time.perf_counter() - start)
print(json.dumps({"tokens_per_s": options.tokens / best,
                  "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}))
