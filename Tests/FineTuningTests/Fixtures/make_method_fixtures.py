#!/usr/bin/env python3
"""Reference values for DoRA, (IA)3 and prompt tuning, computed by PyTorch + PEFT on the default model.

    python make_method_fixtures.py MODEL.gguf

writes beside itself:
  methods.json     for each method: loss, gradient norm and sampled gradients of a fixed batch; the
                   losses of ten AdamW steps; what PEFT computes on two texts with peft_METHOD
  peft_METHOD/     an adapter trained and saved by PEFT

Initial numbers come from make_fixtures.pseudo_random, which the Swift tests repeat.
"""
import json
import os
import platform
import sys

import peft
import torch
import transformers
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from transformers import get_linear_schedule_with_warmup

from make_fixtures import HERE, PAIRS, PROJECTIONS, batch, load, pseudo_random

SAMPLES = 8
VIRTUAL_TOKENS = 5
METHODS = {
    "dora": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "down_proj"], use_dora=True,
                       lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"),
    "ia3": IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"],
                     feedforward_modules=["down_proj"]),
    "prompt_tuning": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL_TOKENS),
}
# The adapters that are stored are small.
SAVED = dict(METHODS, dora=LoraConfig(r=1, lora_alpha=2, target_modules=["v_proj"], use_dora=True, use_rslora=True,
                                      lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"))
LEARNING_RATE = {"dora": 2e-3, "ia3": 1e-2, "prompt_tuning": 1e-3}


def tensors(model):
    """(layer, projection, kind, parameter) of everything that is trained."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "prompt_encoder" in name:
            yield 0, "", "prompt", parameter
            continue
        parts = name.split(".")
        projection = next(p for p in parts if p in PROJECTIONS)
        kind = ("A" if "lora_A" in name else "B" if "lora_B" in name else "scale")
        yield int(parts[parts.index("layers") + 1]), projection, kind, parameter


def initialise(model):
    for layer, projection, kind, parameter in tensors(model):
        place = 0 if kind == "prompt" else (layer * len(PROJECTIONS) + PROJECTIONS.index(projection)) * 2
        seed, scale = {"A": (place, .05), "B": (place + 1, .02), "scale": (place + 1000, .1),
                       "prompt": (9999, .2)}[kind]
        values = torch.tensor(pseudo_random(seed, parameter.numel(), scale), dtype=torch.float32)
        with torch.no_grad():
            if kind == "scale":  # DoRA's magnitudes are the norms of W before, (IA)3's scales are one
                parameter.mul_(1 + values.reshape(parameter.shape))
            else:
                parameter.copy_(values.reshape(parameter.shape))


def adapted(path, config):
    model, _ = load(path)
    return get_peft_model(model, config).train()


def gradients(path, method, examples):
    model = adapted(path, METHODS[method])
    initialise(model)
    loss = model(**batch(examples)).loss
    loss.backward()
    found, total = [], 0.0
    for layer, projection, kind, parameter in tensors(model):
        gradient = parameter.grad.detach().double().flatten()
        total += float((gradient ** 2).sum())
        places = [min((i * gradient.numel()) // SAMPLES + (i * 7) % 11, gradient.numel() - 1) for i in range(SAMPLES)]
        found.append({"layer": layer, "projection": projection or None, "kind": kind, "norm": float(gradient.norm()),
                      "places": places, "values": [float(f"{float(gradient[p]):.7g}") for p in places]})
    return {"loss": float(loss), "gradient_norm": total ** 0.5, "tensors": found}


def steps(path, method, examples):
    batches = [[0, 1], [2, 3, 4]] * 5
    settings = dict(lr=LEARNING_RATE[method], weight_decay=1e-2, clip=0.3, warmup_steps=2)
    model = adapted(path, METHODS[method])
    initialise(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["lr"], weight_decay=settings["weight_decay"])
    schedule = get_linear_schedule_with_warmup(optimizer, settings["warmup_steps"], len(batches))
    losses, norms = [], []
    for members in batches:
        loss = model(**batch([examples[i] for i in members])).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, settings["clip"])))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    with torch.no_grad():
        after = float(model(**batch(examples)).loss)
    return dict(settings, batches=batches, losses=losses, gradient_norms=norms, loss_after=after)


def saved(path, method, examples, tokenizer):
    torch.manual_seed(0)
    model = adapted(path, SAVED[method])
    if method == "prompt_tuning":
        initialise(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(6):
        model(**batch(examples)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.peft_config["default"].base_model_name_or_path = "SmolLM2-135M-Instruct"
    folder = os.path.join(HERE, f"peft_{method}")
    model.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))
    model.eval()
    rows = []
    for text in ["Tag this film: a clockmaker finds a map.\nTag:", "def area(r):\n    return 3.14 * r"]:
        ids = tokenizer(text).input_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0][-len(ids):]
            losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
            with model.disable_adapter():
                base = model(input_ids=torch.tensor([ids])).logits[0]
        places = [(i * logits.shape[1]) // 64 for i in range(64)]
        rows.append({"ids": ids, "losses": losses.tolist(), "places": places,
                     "last": [float(logits[-1, p]) for p in places],
                     "largest_change": float((logits - base).abs().max())})
    return rows


def main():
    path = sys.argv[1]
    _, tokenizer = load(path)
    examples = [{"prompt": tokenizer(p).input_ids, "completion": tokenizer(c).input_ids + [tokenizer.eos_token_id]}
                for p, c in PAIRS]
    result = {"provenance": {"script": os.path.basename(__file__), "model": os.path.basename(path),
                             "torch": torch.__version__, "peft": peft.__version__,
                             "transformers": transformers.__version__, "python": platform.python_version()},
              "examples": examples, "virtual_tokens": VIRTUAL_TOKENS,
              "methods": {m: {"gradients": gradients(path, m, examples), "steps": steps(path, m, examples),
                              "rows": saved(path, m, examples, tokenizer)} for m in METHODS}}
    with open(os.path.join(HERE, "methods.json"), "w") as file:
        json.dump(result, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
