#!/usr/bin/env python3
"""Whether adapters trained by this project give PEFT the same losses and logits as they give here.

    OPPU_EXPORT_ADAPTER=FOLDER swift test … --filter ExportTests
    python check_in_peft.py MODEL.gguf FOLDER

FOLDER/METHOD holds an adapter and expected.json, as ExportTests.swift computed it.
"""
import glob
import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

path, exported = sys.argv[1:3]
folder, name = os.path.split(os.path.abspath(path))
worst = 0.0
for file in sorted(glob.glob(os.path.join(exported, "*", "expected.json"))):
    adapter = os.path.dirname(file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model = PeftModel.from_pretrained(model, adapter).eval()
    for row in json.load(open(file))["rows"]:
        ids = torch.tensor([row["ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0][-ids.shape[1]:]
            with model.disable_adapter():
                base = model(input_ids=ids).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        difference = (losses - torch.tensor(row["losses"])).abs().max().item()
        of_logits = (logits[-1] - torch.tensor(row["logits"])).abs().max().item()
        worst = max(worst, difference, of_logits / 10)
        print(f"{os.path.basename(adapter)}, {len(row['ids'])} tokens: largest difference of a token's loss "
              f"{difference:.2e}, of a logit {of_logits:.2e}; the adapter moves logits by up to "
              f"{(logits - base).abs().max().item():.2f}")
sys.exit(worst > 1e-3)
