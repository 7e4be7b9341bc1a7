#!/usr/bin/env python3
"""Makes models/ beside this file: tiny models of every architecture and what transformers computes of them.

    python3 make_model_fixtures.py

models/NAME/         a folder saved by transformers: random weights, a tokenizer trained here
models/NAME.gguf     the same model as GGUF, written with the gguf package
models/logits.json   of each folder: token ids and the last position's logits
models/types.json    logits of seeded models (see `seeded`) of each architecture and weight type
models/tokens.jsonl  texts and the ids that the tokenizers library gives for them with each tokenizer

Needs torch, transformers, tokenizers, gguf, numpy. The first line or key "made_with" names the versions.
"""
import json
import os
import random
import shutil
import sys

import gguf
import numpy
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

sys.argv = [sys.argv[0]]
from make_fixtures import CJK, CODE, EMOJI, OTHER, PROSE, RTL, versions  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
CORPUS = PROSE + CODE + ["123 4567 89", "  indented\n\n  text\n", "It's we'll I'M you'RE", "don't    stop", "的 地 得"] * 3


def byte_level(pieces, specials, normalizer=None, ignore_merges=False, bos=None, size=330):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pieces
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size - len(specials), initial_alphabet=ALPHABET, show_progress=False))
    if ignore_merges:  # a whole piece that merging alone would not make
        vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
        merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
        for text in ["Ġvillage", "xyz", "Ġ77"]:
            vocab[text] = len(vocab)
        tokenizer.model = models.BPE(vocab, merges, ignore_merges=True)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials[:-1]])
    tokenizer.add_tokens([AddedToken(specials[-1], special=False, normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        template = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentence_piece(metaspace, size=440):
    """Byte fallback, every way to cut a token in two a merge, ranked by the token's id: as transformers converts SentencePiece models."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size - 259, show_progress=False, limit_alphabet=60, max_token_length=12))
    pieces = [t for t, _ in sorted(json.loads(trained.to_str())["model"]["vocab"].items(), key=lambda e: (len(e[0]) == 1, e[1]))]
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces)}
    merges = [(t[:c], t[c:]) for t in pieces for c in range(1, len(t)) if t[:c] in vocab and t[c:] in vocab]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Llama 2 marks its special tokens as normalised in some releases, Mistral never.
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=not metaspace and t == "<unk>") for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def tokenizer_set():
    end, start, tool = "<|end|>", "<|begin|>", "<tool>"
    return {
        "llama2": sentence_piece(False),
        "llama3": byte_level(split(LLAMA3), [start, end, tool], ignore_merges=True, bos=start),
        "mistral": sentence_piece(True),
        "smollm": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), [start, end, tool]),
        "qwen2": byte_level(split(QWEN2), [end, start, tool], normalizer=normalizers.NFC()),
        "gpt2": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), [end, start, tool]),
    }


def texts():
    random_ = random.Random(20261123)
    made = ["", " ", "  ", "\n", "\r\n", " \n ", "\t\t\t", "a", "'", "'s", " 's", "'ſ x'ſt", "I'LL i'll We'Re don''t 'VE'D'M'T", "x'S'T'RE", "\u0000\u0001", "\x7f\x80\x85\x9f\xa0\xad",
            "a  b", "a   b\n", "a\n\n\nb", "a \n \n b", "  \n\n  x", "   7", "1234567 12 1", "12a345b6", "½²³Ⅻ٣٤٥", "a1b22c333d4444", "!!!\n\n?", " !?\r\n x", "...and", "(word)", "\tword\t\tword", "\u00a0word \u3000x",
            "e\u0301 é", "n\u0303o", "\u1100\u1161\u11a8", "Å Å Å", "ﬁ ﬂ", "\u0301", "a\u0301\u0323 a\u0323\u0301", "q\u0307\u0323", "क़ क़", "각", "Ω Ω", "豈", "<s>", "</s>x", "a <s>b", "<unk> <unk>", "x<unk>", "<|begin|>a<|end|> b", "<tool> <tool", "<|end", "<0x0A>", "▁", "▁▁a ▁b", " ▁a", "village the village", "xyz 77 xyz", " leading", "trailing ", "  two leading"]
    made += PROSE[:4] + CODE + EMOJI + CJK + RTL + OTHER + ["a" * 70, "the " * 20, " " * 40 + "x"]
    pools = [PROSE, CODE, EMOJI, CJK, RTL, OTHER, ["<s>", "</s>", "<|end|>", "<tool>", "42", "1999", "don't", "WE'LL"]]
    while len(made) < 330:
        parts = []
        for _ in range(random_.randint(1, 4)):
            text = random_.choice(random_.choice(pools))
            a = random_.randrange(len(text))
            parts.append(text[a:a + random_.randint(1, 14)])
        made.append(random_.choice(["", " ", "  ", "\n", "\n\n", ", ", "\t", "   \n  ", "'"]).join(parts))
    while len(made) < 400:
        ranges = [(0, 0x7f), (0x80, 0x7ff), (0x800, 0xd7ff), (0xe000, 0xfdff), (0x1f300, 0x1f6ff)]
        made.append("".join(chr(random_.randint(*random_.choice(ranges))) if random_.random() < 0.4 else random_.choice(" aE1.'\n\r\t's") for _ in range(random_.randint(1, 20))))
    return made


def write_tokens(tokenizers_):
    with open(os.path.join(HERE, "tokens.jsonl"), "w", encoding="utf-8") as out:
        out.write(json.dumps({"made_with": versions()}) + "\n")
        for text in texts():
            row = {"text": text}
            for name, tokenizer in tokenizers_.items():
                row[name] = tokenizer.encode(text).ids
                plain = tokenizer.encode(text, add_special_tokens=False).ids
                decoded = tokenizer.decode(plain, skip_special_tokens=False)
                if decoded != text:
                    row[name + "_decoded"] = decoded
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}
# Short contexts, so that few positions already show what scaling does.
FOLDERS = {
    "llama2": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, "tie_word_embeddings": True}, "llama2", torch.float32, "F16"),
    "llama3": ("Llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}, "tie_word_embeddings": True}, "llama3", torch.bfloat16, "Q5_0"),
    "mistral": ("Mistral", {"sliding_window": 64, "head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, "mistral", torch.bfloat16, "Q8_0"),
    "smollm": ("Llama", {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}}, "smollm", torch.bfloat16, "Q4_0"),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 32}, "tie_word_embeddings": True}, "qwen2", torch.bfloat16, "BF16"),
    "qwen3": ("Qwen3", {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, "qwen2", torch.float16, "Q5_1"),
}


def interleaved(weight, heads):
    """Rows of each head from halves to pairs, as GGUF stores the queries and keys of a llama."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def write_gguf(name, kind, config, model, tokenizer, type_name):
    """The model with matrices in a weight type; returns the state dict as a reader sees it."""
    arch = {"Llama": "llama", "Mistral": "llama"}.get(kind, kind.lower())
    writer = gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if arch == "llama":
        writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if getattr(config, "sliding_window", None) and kind == "Mistral":
        writer.add_sliding_window(config.sliding_window)
    if rope["rope_type"] == "llama3":
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, head, 2).float() / head)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq).numpy().astype(numpy.float32))

    saved = json.loads(tokenizer.to_str())
    added = {t["id"]: t for t in saved["added_tokens"]}
    vocab = sorted(set(saved["model"]["vocab"].items()) | {(t["content"], i) for i, t in added.items()}, key=lambda e: e[1])
    sentence = saved["model"]["byte_fallback"]
    types = []
    for text, index in vocab:
        if index in added:
            types.append(gguf.TokenType.UNKNOWN if text == "<unk>" else gguf.TokenType.CONTROL if added[index]["special"] else gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.BYTE if sentence and text.startswith("<0x") else gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama" if sentence else "gpt2")
    writer.add_token_list([t for t, _ in vocab])
    writer.add_token_types(types)
    if sentence:
        writer.add_token_scores([-float(i) for _, i in vocab])
    else:
        writer.add_tokenizer_pre({"llama3": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2", "smollm": "smollm"}[name])
        writer.add_token_merges([" ".join(m) for m in saved["model"]["merges"]])
    eos = tokenizer.token_to_id("</s>" if sentence else "<|end|>")
    writer.add_bos_token_id(tokenizer.token_to_id("<s>" if sentence else "<|begin|>"))
    writer.add_eos_token_id(eos)

    quantization = gguf.GGMLQuantizationType[type_name]
    seen = {}
    for key, value in model.state_dict().items():
        value = value.float().numpy()
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if value.ndim == 2:
            data = value
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            if arch == "llama" and ("q_proj" in key or "k_proj" in key):
                data = interleaved(value, heads)
            data = gguf.quants.quantize(data, quantization)
            writer.add_tensor(gguf_name(key), data, raw_dtype=quantization)
            value = gguf.quants.dequantize(gguf.quants.quantize(value, quantization), quantization)
        else:
            writer.add_tensor(gguf_name(key), value)
        seen[key] = torch.from_numpy(numpy.array(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


def last_logits(model, ids):
    with torch.no_grad():
        return [float(f"{v:.6g}") for v in model(torch.tensor([ids])).logits[0, -1, ::7].float()]


def write_folders(tokenizers_):
    rows = {}
    for name, (kind, extra, tokenizer_name, dtype, type_name) in FOLDERS.items():
        tokenizer = tokenizers_[tokenizer_name]
        vocabulary = max(json.loads(tokenizer.to_str())["model"]["vocab"].values()) + 1
        vocabulary = max([vocabulary] + [t["id"] + 1 for t in json.loads(tokenizer.to_str())["added_tokens"]])
        sentence = tokenizer_name in ("llama2", "mistral")
        bos, eos = (tokenizer.token_to_id(t) for t in (("<s>", "</s>") if sentence else ("<|begin|>", "<|end|>")))
        config = getattr(transformers, kind + "Config")(vocab_size=vocabulary, bos_token_id=bos, eos_token_id=eos, pad_token_id=None, **{**SMALL, **extra})
        torch.manual_seed(len(rows))
        model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.normal_(1.0, 0.2) if "norm" in key else value.normal_(0.0, 0.5 if "bias" in key else 0.25)
        folder = os.path.join(HERE, name)
        os.makedirs(folder)
        model.to(dtype).save_pretrained(folder, max_shard_size="40KB" if name == "llama2" else "5GB")
        tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
            json.dump({"bos_token": tokenizer.id_to_token(bos), "eos_token": tokenizer.id_to_token(eos), "chat_template": "{{ messages }}", "tokenizer_class": "PreTrainedTokenizerFast"}, out)
        model = getattr(transformers, kind + "ForCausalLM").from_pretrained(folder, dtype=torch.float32).eval()
        random_ = random.Random(5)
        inputs = [[random_.randrange(vocabulary) for _ in range(n)] for n in (1, 9, 60)]
        row = {"inputs": inputs, "folder": [last_logits(model, ids) for ids in inputs]}
        if name == "mistral":
            row["beyond_window"] = 65
        model.load_state_dict(write_gguf(name, kind, config, model, tokenizer, type_name), strict=False)
        if config.tie_word_embeddings:
            model.tie_weights()
        row["gguf_type"] = type_name
        row["gguf"] = [last_logits(model, ids) for ids in inputs]
        rows[name] = row
    with open(os.path.join(HERE, "logits.json"), "w") as out:
        json.dump({"made_with": versions(), "logits": "of the last position, ids 0, 7, 14, ...", "models": rows}, out, separators=(",", ":"))


def hashes(seed, count):
    """The 32-bit numbers that SeededModel.swift makes of a seed."""
    x = numpy.arange(count, dtype=numpy.uint64) + seed * 1_000_003
    x = x.astype(numpy.uint32)
    for _ in range(2):
        x = (x ^ (x >> numpy.uint32(16))) * numpy.uint32(0x45D9F3B)
    return x ^ (x >> numpy.uint32(16))


# Of each type: bytes of a block, and its half-precision numbers as (offset, exponent field, whether negative).
SEEDED = {"F16": (2, [(0, 10, None)]), "Q4_0": (18, [(0, 9, None)]), "Q4_1": (20, [(0, 9, False), (2, 12, True)]), "Q5_0": (22, [(0, 8, None)]), "Q5_1": (24, [(0, 8, False), (2, 12, True)]),
          "Q8_0": (34, [(0, 5, None)]), "Q4_K": (144, [(0, 3, False), (2, 6, False)]), "Q5_K": (176, [(0, 2, False), (2, 6, False)]), "Q6_K": (210, [(208, 1, None)]), "BF16": (2, []), "F32": (4, [])}


def seeded(seed, type_name, rows, columns):
    """Random blocks: bytes from `hashes`, scales with a fixed exponent. Returns them and their weights."""
    size, scales = SEEDED[type_name]
    if type_name in ("F32", "BF16"):
        bits = hashes(seed, rows * columns) & numpy.uint32(0x807FFFFF) | numpy.uint32(122 << 23)
        if type_name == "BF16":
            bits &= numpy.uint32(0xFFFF0000)
        return bits.view(numpy.float32).reshape(rows, columns)
    kind = gguf.GGMLQuantizationType[type_name]
    length = gguf.GGML_QUANT_SIZES[kind][0]
    blocks = rows * columns // length
    data = (hashes(seed, blocks * size) >> numpy.uint32(9)).astype(numpy.uint8).reshape(blocks, size)
    for offset, exponent, negative in scales:
        high = data[:, offset + 1]
        sign = high & 0x80 if negative is None else 0x80 if negative else 0
        data[:, offset + 1] = (high & 3) | exponent << 2 | sign
    return gguf.quants.dequantize(data.reshape(rows, -1), kind).astype(numpy.float32)


def write_types():
    """Models of width 256 whose weights both sides make from a seed: nothing but logits is stored."""
    rows = []
    for kind in ("Llama", "Qwen2", "Qwen3"):
        config = getattr(transformers, kind + "Config")(
            vocab_size=262, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4,
            max_position_embeddings=600, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True, **({"head_dim": 64} if kind == "Qwen3" else {}))
        model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()
        for type_name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
            state = model.state_dict()
            # Tensors are numbered in the order of their GGUF names.
            names = sorted((k for k in state if k != "lm_head.weight"), key=gguf_name)
            for number, key in enumerate(names):
                shape = state[key].shape
                if len(shape) == 2:
                    value = seeded(number, type_name, *shape)
                else:  # norms between 1 and 2, biases between -1 and 1
                    bits = hashes(number, shape[0]) & numpy.uint32(0x7FFFFF) | numpy.uint32(127 << 23)
                    value = bits.view(numpy.float32) - (numpy.float32(1.5) if key.endswith("bias") else numpy.float32(0))
                state[key] = torch.from_numpy(numpy.array(value))
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
            model.load_state_dict(state)
            for length in (1, 33):
                ids = [(7 * i + 3) % 262 for i in range(length)]
                with torch.no_grad():
                    logits = model(torch.tensor([ids])).logits[0, -1, ::16]
                rows.append({"architecture": kind.lower(), "type": type_name, "ids": ids, "logits": [float(f"{v:.6g}") for v in logits]})
    with open(os.path.join(HERE, "types.json"), "w") as out:
        json.dump({"made_with": versions(), "logits": "of the last position, ids 0, 16, 32, ...", "rows": rows}, out, separators=(",", ":"))


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    made = tokenizer_set()
    write_folders(made)
    made["gpt2"].save(os.path.join(HERE, "gpt2.tokenizer.json"), pretty=False)
    write_tokens(made)
    write_types()


main()
