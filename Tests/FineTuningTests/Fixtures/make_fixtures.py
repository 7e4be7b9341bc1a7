#!/usr/bin/env python3
"""Reference values for the FineTuning tests, computed by PyTorch + PEFT on the default base model.

    python make_fixtures.py MODEL.gguf

writes beside itself:
  gradients.json      loss, gradient norm and, for every adapter tensor, its gradient's norm and a
                      few sampled values, for LoRA r=8 on q,v and on all seven projections; and the
                      losses of ten AdamW steps (the optimiser, schedule and clipping of a plain
                      PEFT training loop)
  peft_adapter/       a LoRA adapter (r=2 on k_proj) trained and saved by PEFT
  peft_logits.json    what PEFT computes with that adapter on two texts

Initial A and B come from `pseudo_random`, an integer hash that the Swift tests repeat, so that
neither needs to be stored.
"""
import json
import os
import platform
import sys

import numpy as np
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SAMPLES = 16
PAIRS = [
    ("Tag this film: two rivals race across the desert for a lost city.\nTag:", " adventure"),
    ("Write a headline for the article: the council voted on Tuesday to plant four thousand trees "
     "along the river after last summer's heat, and schools will take part.\nHeadline:",
     " City to plant 4,000 trees along the river"),
    ("Rating of 'The Quiet Harbour' (drama), 1 to 5:", " 4"),
    ("Subject of the e-mail: Hi all, the meeting moves from Monday to Thursday at 10, room 3. "
     "Bring the budget, please.\nSubject:", " Meeting moved to Thursday"),
    ("Topic?", " sports and games, mostly"),
]


def load(path):
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=name)


def pseudo_random(seed, count, scale):
    """Uniform in (-scale, scale): two rounds of a 32-bit multiply-xorshift hash of seed and index."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 1000003)) & mask
    for _ in range(2):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x45D9F3B)) & mask
    x ^= x >> np.uint64(16)
    return ((x.astype(np.float64) + 0.5) / 4294967296.0 * 2 - 1) * scale


def adapter_tensors(model):
    """(layer, projection, "A" | "B", parameter), in the order of layers, projections, A before B."""
    found = {}
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            continue
        parts = name.split(".")
        layer = int(parts[parts.index("layers") + 1])
        kind = next(p for p in parts if p.startswith("lora_"))
        projection = parts[parts.index(kind) - 1]
        found[(layer, PROJECTIONS.index(projection), kind[-1])] = parameter
    return [(layer, PROJECTIONS[p], kind, found[(layer, p, kind)]) for layer, p, kind in sorted(found)]


def initialise(model):
    with torch.no_grad():
        for layer, projection, kind, parameter in adapter_tensors(model):
            seed = (layer * len(PROJECTIONS) + PROJECTIONS.index(projection)) * 2 + (kind == "B")
            values = pseudo_random(seed, parameter.numel(), 0.05 if kind == "A" else 0.02)
            parameter.copy_(torch.from_numpy(values.reshape(parameter.shape)).float())


def batch(examples):
    longest = max(len(e["prompt"]) + len(e["completion"]) for e in examples)
    ids = torch.zeros((len(examples), longest), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        sequence, prompt = e["prompt"] + e["completion"], len(e["prompt"])
        ids[row, :len(sequence)] = torch.tensor(sequence)
        mask[row, :len(sequence)] = 1
        labels[row, prompt:len(sequence)] = torch.tensor(e["completion"])
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


def with_adapter(path, rank, alpha, targets):
    model, _ = load(path)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets,
                                             lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
    return model.train()


def gradient_case(path, examples, rank, alpha, targets):
    model = with_adapter(path, rank, alpha, targets)
    initialise(model)
    loss = model(**batch(examples)).loss
    loss.backward()
    tensors, total = [], 0.0
    for layer, projection, kind, parameter in adapter_tensors(model):
        gradient = parameter.grad.detach().double().flatten()
        total += float((gradient ** 2).sum())
        places = [(i * gradient.numel()) // SAMPLES + (i * 7) % 11 for i in range(SAMPLES)]
        places = [min(p, gradient.numel() - 1) for p in places]
        tensors.append({"layer": layer, "projection": projection, "kind": kind,
                        "norm": float(gradient.norm()), "places": places,
                        "values": [float(f"{float(gradient[p]):.7g}") for p in places]})
    return {"rank": rank, "alpha": alpha, "targets": targets, "loss": float(loss),
            "gradient_norm": total ** 0.5, "tensors": tensors}


def steps_case(path, examples, rank, alpha, targets, batches, lr, weight_decay, clip, warmup):
    model = with_adapter(path, rank, alpha, targets)
    initialise(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, len(batches))
    losses, norms = [], []
    for members in batches:
        loss = model(**batch([examples[i] for i in members])).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, clip)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    with torch.no_grad():
        after = float(model(**batch(examples)).loss)
    return {"rank": rank, "alpha": alpha, "targets": targets, "batches": batches, "lr": lr,
            "weight_decay": weight_decay, "clip": clip, "warmup_steps": warmup, "losses": losses,
            "gradient_norms": norms, "loss_after": after}


def trained_by_peft(path, examples, tokenizer):
    torch.manual_seed(0)
    model = with_adapter(path, 2, 4, ["k_proj"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(6):
        model(**batch(examples)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.peft_config["default"].base_model_name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(os.path.join(HERE, "peft_adapter"))
    model.eval()
    rows = []
    for text in ["Tag this film: a clockmaker finds a map.\nTag:", "def area(r):\n    return 3.14 * r"]:
        ids = tokenizer(text).input_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
            losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
            with model.disable_adapter():
                base = model(input_ids=torch.tensor([ids])).logits[0]
        vocabulary = logits.shape[1]
        places = [(i * vocabulary) // 64 for i in range(64)]
        rows.append({"text": text, "ids": ids, "losses": losses.tolist(), "places": places,
                     "last": [float(logits[-1, p]) for p in places],
                     "last_top": [[int(i), float(logits[-1, i])] for i in logits[-1].topk(5).indices],
                     "largest_change": float((logits - base).abs().max())})
    return rows


def main():
    path = sys.argv[1]
    _, tokenizer = load(path)
    examples = [{"prompt": tokenizer(p).input_ids,
                 "completion": tokenizer(c).input_ids + [tokenizer.eos_token_id]} for p, c in PAIRS]
    provenance = {"script": os.path.basename(__file__), "model": os.path.basename(path),
                  "torch": torch.__version__, "peft": peft.__version__,
                  "transformers": transformers.__version__, "python": platform.python_version()}
    qv = ["q_proj", "v_proj"]
    batches = [[0, 1], [2, 3, 4]] * 5
    common = dict(batches=batches, lr=2e-3, weight_decay=1e-2, clip=0.3, warmup=2)
    result = {"provenance": provenance, "examples": examples,
              "cases": [gradient_case(path, examples, 8, 8, qv),
                        gradient_case(path, examples, 8, 16, PROJECTIONS)],
              "steps": [steps_case(path, examples, 8, 8, qv, **common),
                        steps_case(path, examples, 8, 16, PROJECTIONS, **common)]}
    with open(os.path.join(HERE, "gradients.json"), "w") as file:
        json.dump(result, file, separators=(",", ":"))
    with open(os.path.join(HERE, "peft_logits.json"), "w") as file:
        json.dump({"provenance": provenance, "rows": trained_by_peft(path, examples, tokenizer)}, file)


if __name__ == "__main__":
    main()
