#!/usr/bin/env python3
"""LoRA on a GGUF model with PyTorch and PEFT: loss on the completion, batches padded to their longest. Prints JSON."""
import argparse
import json
import os
import resource
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True, action="append", help='JSONL of {"prompt", "completion"}; may be repeated')
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--rate", type=float, default=1e-4)
parser.add_argument("--threads", type=int, required=True)
options = parser.parse_args()
torch.set_num_threads(options.threads)


def fresh():
    torch.manual_seed(0)
    folder, name = os.path.split(os.path.abspath(options.model))
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    lora = peft.LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.0, task_type="CAUSAL_LM")
    return peft.get_peft_model(base, lora).train(), transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)


def train(path):
    model, tokenizer = fresh()
    end = tokenizer.eos_token_id
    rows = []
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        prompt, completion = tokenizer(row["prompt"]).input_ids, tokenizer(row["completion"]).input_ids + [end]
        rows.append((prompt + completion, len(completion)))
    rows.sort(key=lambda row: len(row[0]))  # batches of like lengths: the least padding
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.01)
    steps = options.epochs * -(-len(rows) // options.batch)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    losses = []
    start = time.perf_counter()
    for _ in range(options.epochs):
        for first in range(0, len(rows), options.batch):
            batch = rows[first:first + options.batch]
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([row + [end] * (width - len(row)) for row, _ in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in batch])
            labels = torch.full_like(ids, -100)
            for number, (row, count) in enumerate(batch):
                labels[number, len(row) - count:len(row)] = ids[number, len(row) - count:len(row)]
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.3)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    seconds = time.perf_counter() - start
    steps = len(losses) // options.epochs
    return {"examples_per_s": len(rows) * options.epochs / seconds,
            "tokens_per_s": sum(len(ids) for ids, _ in rows) * options.epochs / seconds,
            "last_epoch_loss": sum(losses[-steps:]) / steps}


print(json.dumps({
    "runs": [train(path) for path in options.data],
    "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}}))
