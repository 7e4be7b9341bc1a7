#!/usr/bin/env python3
"""Whether a LoRA adapter that this project wrote as GGUF moves llama.cpp's logits as it moves ours.

    OPPU_EXPORT_ADAPTER=FOLDER swift test … --filter ExportTests
    python check_in_llama_cpp.py MODEL.gguf FOLDER/lora

llama.cpp rounds activations to eight bits wherever weights are quantised, which alone moves this model's
logits by almost one; so it gets a copy of the base model in F32, and an F32 cache. What is compared is the
change that the adapter makes, relative to its own size; a control with the rows of q and k in the wrong
order has to fail.
"""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama

path, folder = sys.argv[1:3]
rows = json.load(open(os.path.join(folder, "expected.json")))["rows"]


def in_f32(source, target):
    """A copy of a model with all its weights in F32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind,
                             sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(adapter):
    model = Llama(model_path=base_model, lora_path=adapter, n_ctx=256, n_batch=256, logits_all=True, type_k=0,
                  type_v=0, verbose=False)
    found = []
    for row in rows:
        model.reset()
        model.eval(row["ids"])
        found.append(np.array(model.scores[len(row["ids"]) - 1], dtype=np.float64))
    return found


def without_permutation(source, target, heads):
    """A copy whose q and k rows are as Hugging Face has them: what a wrong exporter would write."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(reader.fields["adapter.lora.alpha"].parts[-1][0]))
    for tensor in reader.tensors:
        values = np.array(tensor.data, dtype=np.float32)
        for kind, count in heads.items():
            if tensor.name.endswith(f"{kind}.weight.lora_b"):
                out, rank = values.shape
                values = values.reshape(count, out // count // 2, 2, rank).swapaxes(1, 2).reshape(out, rank)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


adapter = os.path.join(folder, "adapter.gguf")
control = os.path.join(folder, "control.gguf")
fields = gguf.GGUFReader(path).fields
without_permutation(adapter, control, {"attn_q": int(fields["llama.attention.head_count"].parts[-1][0]),
                                       "attn_k": int(fields["llama.attention.head_count_kv"].parts[-1][0])})
base_model = os.path.join(tempfile.mkdtemp(), "f32.gguf")
in_f32(path, base_model)
errors = {}
base = logits(None)
for label, file in [("adapter", adapter), ("control", control)]:
    errors[label] = 0.0
    for row, before, after in zip(rows, base, logits(file)):
        ours = np.array(row["logits"]) - np.array(row["base"])
        theirs = after - before
        error = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
        errors[label] = max(errors[label], error)
        print(f"{label}, {len(row['ids'])} tokens: base logits differ by up to "
              f"{np.abs(before - row['base']).max():.4f}; the adapter moves them by up to {np.abs(ours).max():.2f} here "
              f"and {np.abs(theirs).max():.2f} there; relative distance of the moves {error:.5f}")
os.remove(base_model)
sys.exit(not (errors["adapter"] < 1e-3 and errors["control"] > 0.05))
