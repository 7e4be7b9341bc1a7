#!/usr/bin/env python3
"""Whether an adapter trained by this project gives PEFT the same losses as it gives here.

    OPPU_EXPORT_ADAPTER=FOLDER swift test … --filter ExportTests
    python check_in_peft.py MODEL.gguf FOLDER

FOLDER holds the adapter and losses.json, {"rows": [{"ids": […], "losses": […]}]}, as computed here.
"""
import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

path, adapter = sys.argv[1:3]
folder, name = os.path.split(os.path.abspath(path))
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.hf_quantizer, model.is_quantized = None, False
model = PeftModel.from_pretrained(model, adapter).eval()
worst = 0.0
for row in json.load(open(os.path.join(adapter, "losses.json")))["rows"]:
    ids = torch.tensor([row["ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
        with model.disable_adapter():
            base = model(input_ids=ids).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    difference = (losses - torch.tensor(row["losses"])).abs().max().item()
    worst = max(worst, difference)
    print(f"{len(row['ids'])} tokens: largest difference of a token's loss {difference:.2e}; "
          f"the adapter moves logits by up to {(logits - base).abs().max().item():.2f}")
sys.exit(worst > 1e-3)
