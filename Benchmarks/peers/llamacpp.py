#!/usr/bin/env python3
"""llama.cpp (llama-cpp-python): prefill, decoding, and users with an adapter each, switched per user. Prints JSON."""
import argparse
import ctypes
import json
import os
import tempfile
import time

import gguf
import llama_cpp
import numpy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--users", type=int, default=16)
options = parser.parse_args()
model = llama_cpp.Llama(options.model, n_ctx=2048, n_batch=512, n_threads=options.threads,
                        n_threads_batch=options.threads, verbose=False)


def run(prompt, new):
    """Seconds of the prompt, and of `new` greedy tokens after it; an end of text does not end it."""
    model.reset()
    start = time.perf_counter()
    model.eval(prompt)
    middle = time.perf_counter()
    for _ in range(new):
        model.eval([model.sample(temp=0.0)])
    return middle - start, time.perf_counter() - middle


def tokens(count, first=1000):
    return [first + 7 * i for i in range(count)]


def write_adapter(path, seed):
    """Random LoRA factors of rank 8 on queries and values."""
    numbers = numpy.random.default_rng(seed)
    about = model.metadata
    layers, width = int(about["llama.block_count"]), int(about["llama.embedding_length"])
    values = width // int(about["llama.attention.head_count"]) * int(about["llama.attention.head_count_kv"])
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
    for layer in range(layers):
        for name, out in (("attn_q", width), ("attn_v", values)):
            for factor, shape in (("a", (8, width)), ("b", (out, 8))):
                writer.add_tensor(f"blk.{layer}.{name}.weight.lora_{factor}", numbers.normal(0, 0.01, shape).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


result = {"versions": {"llama-cpp-python": llama_cpp.__version__},
          "prefill_tokens_per_s": 512 / min(run(tokens(512), 0)[0] for _ in range(3)),
          "decode_tokens_per_s": 64 / min(run(tokens(8), 64)[1] for _ in range(3))}
with tempfile.TemporaryDirectory() as folder:
    adapters = []
    for user in range(options.users):
        path = os.path.join(folder, f"{user}.gguf")
        write_adapter(path, user)
        adapters.append(llama_cpp.llama_adapter_lora_init(model.model, path.encode()))
        assert adapters[-1], "llama.cpp refused an adapter"
    start = time.perf_counter()
    for user, adapter in enumerate(adapters):
        llama_cpp.llama_clear_adapter_lora(model.ctx)
        llama_cpp.llama_set_adapter_lora(model.ctx, adapter, ctypes.c_float(1.0))
        run(tokens(96, 1000 + user), 32)
    result["users_requests_per_s"] = options.users / (time.perf_counter() - start)
print(json.dumps(result))
