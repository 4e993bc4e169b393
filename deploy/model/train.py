#!/usr/bin/env python3
"""Trains a small byte-level language model with two Engram layers, and its twin without memory.

train.py OUT_DIR [--layout v41|paper] [--steps N] [--without-memory]

Text: the King James Bible (Debian packages bible-kjv and bible-kjv-text; in the public domain).
Every twentieth chapter is held out. Needs python3-numpy and python3-torch, and libopenblas0-serial:
with Debian's default libblas3 a step takes 13 times as long. Uses one core. Writes a checkpoint
that engramd serves and engram-generate runs: config.json, tokenizer.json, model.safetensors,
held_out.txt, and logits.json, what torch computes for a line.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as missing:
    sys.exit(f"error: {missing}; Debian has it as python3-numpy and python3-torch")

import safetensors_file as st  # noqa: E402
from decoder import EPS, Decoder, PaperFusion, V41Fusion  # noqa: E402
from geometry import BOS, PAD, SPECIALS, VOCAB, Geometry, byte_characters  # noqa: E402

HIDDEN, LAYERS, HEADS, MLP = 96, 4, 4, 384
TABLE_LAYERS, MAX_NGRAM, TABLE_HEADS, FLOOR, ROW_VALUES = [1, 2], 6, 2, 5000, 32
WINDOW, BATCH = 256, 12  # bytes of a training sequence; sequences of a step
HELD_OUT_BYTES = 96 * 1024
PROMPT = "And it came to pass in those days, that the children of Israel"


def chapters():
    """The text of each chapter, one verse a line."""
    try:
        out = subprocess.run(["bible", "-f", "Ge1:1-Re22:21"], check=True, capture_output=True,
                             text=True).stdout
    except FileNotFoundError:
        sys.exit("error: the Debian package bible-kjv is not installed")
    found = {}
    for line in out.splitlines():
        reference, _, verse = line.partition(" ")
        found.setdefault(reference.split(":")[0], []).append(verse.strip())
    if len(found) != 1189:
        sys.exit(f"error: `bible` printed {len(found)} chapters, not 1189")
    return ["\n".join(verses) + "\n" for verses in found.values()]


def split():
    """(training bytes, held-out bytes)."""
    every = chapters()
    held = "".join(text for i, text in enumerate(every) if i % 20 == 10)
    kept = "".join(text for i, text in enumerate(every) if i % 20 != 10)
    return kept.encode(), held.encode()[:HELD_OUT_BYTES]


def batches(text, steps, seed=1):
    """[BATCH, WINDOW + 1] tokens of each step, each a window of the text after BOS."""
    data = np.frombuffer(text, np.uint8).astype(np.int64)
    generator, order = np.random.default_rng(seed), np.empty(0, np.int64)
    for _ in range(steps):
        if len(order) < BATCH:  # an epoch: all windows, from another start, in another order
            first = generator.integers(WINDOW)
            starts = np.arange(first, len(data) - WINDOW, WINDOW)
            order = np.concatenate([order, generator.permutation(starts)])
        starts, order = order[:BATCH], order[BATCH:]
        windows = data[starts[:, None] + np.arange(WINDOW)]
        yield np.concatenate([np.full((BATCH, 1), BOS), windows], axis=1)


def ids_of(geometry, tokens):
    if geometry is None:
        return {}
    return {layer: torch.from_numpy(geometry.row_ids(layer, tokens)) for layer in geometry.layers}


def loss_of(model, geometry, window):
    tokens = window[:, :-1]
    logits = model(torch.from_numpy(tokens), ids_of(geometry, tokens))
    return F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(window[:, 1:]).flatten())


def held_out_loss(model, geometry, text):
    """Nats a byte over windows of WINDOW bytes, each after BOS."""
    data = np.frombuffer(text, np.uint8).astype(np.int64)
    data = data[:len(data) // WINDOW * WINDOW].reshape(-1, WINDOW)
    windows = np.concatenate([np.full((len(data), 1), BOS), data], axis=1)
    with torch.no_grad():
        losses = [loss_of(model, geometry, part).item() * len(part)
                  for part in np.array_split(windows, max(1, len(windows) // 16))]
    return sum(losses) / len(windows)


def train(model, geometry, text, held, steps):
    decayed = [p for n, p in model.named_parameters() if p.dim() == 2 and "tables." not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 and "tables." not in n]
    optimizers = [torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05},
                                     {"params": others, "weight_decay": 0}],
                                    lr=3e-3, betas=(0.9, 0.98))]
    if geometry:
        optimizers.append(torch.optim.SparseAdam(list(model.tables.parameters()), lr=5e-3))
    bases = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    began, mean = time.time(), None
    for step, window in enumerate(batches(text, steps), 1):
        share = min(1, step / 100) * (0.05 + 0.95 * (1 + np.cos(np.pi * step / steps)) / 2)
        for optimizer, base in zip(optimizers, bases):
            for group in optimizer.param_groups:
                group["lr"] = base * share
            optimizer.zero_grad()
        loss = loss_of(model, geometry, window)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decayed + others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0 or step == steps:
            left = (time.time() - began) / step * (steps - step)
            print(f"step {step}/{steps}: {mean:.4f} nats a byte, {left:.0f} s left", flush=True)
    print(f"held out: {held_out_loss(model, geometry, held):.4f} nats a byte, "
          f"after {time.time() - began:.0f} s", flush=True)


def checkpoint_name(name, layout):
    """What a parameter is called in a checkpoint; a table's name in V4.1's layout is a prefix."""
    names = {"q_norm.weight": "q_weight", "k_norm.weight": "k_weight"} if layout == "v41" else {
        "q_norm.weight": "norm2.0.weight", "k_norm.weight": "norm1.0.weight",
        "key_proj.weight": "key_projs.0.weight", "key_proj.bias": "key_projs.0.bias",
        "conv": "short_conv.conv.weight", "conv_norm.weight": "short_conv.norms.0.weight"}
    if name.startswith("tables."):
        embed = "embed" if layout == "v41" else "multi_head_embedding.embedding.weight"
        return f"layers.{name.split('.')[1]}.engram.{embed}"
    if name.startswith("fusions."):
        _, layer, rest = name.split(".", 2)
        return f"layers.{layer}.engram.{names.get(rest, rest)}"
    return name.replace("blocks.", "layers.")


def tensors_of(model, layout):
    """The checkpoint's tensors. What is written replaces the model's own, rounded as written."""
    tensors = {}
    for name, parameter in model.named_parameters():
        values, written = parameter.detach().numpy(), checkpoint_name(name, layout)
        if name.startswith("tables.") and layout == "v41":
            codes, scales = st.fp8(values)
            tensors[f"{written}.weight"] = ("F8_E4M3", codes)
            tensors[f"{written}.scale"] = ("F8_E8M0", scales)
            rounded = st.of_fp8(codes, scales)
        else:
            words = st.bf16(values)
            rounded = st.of_bf16(words)
            if written.endswith((".q_weight", ".k_weight")):
                words = words[None]  # [branches, hidden]
            tensors[written] = ("BF16", words)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(rounded))
    return tensors


def config_of(model, geometry, layout):
    config = {"model_type": "engram-kjv" + ("" if geometry else "-without-memory"),
              "decoder": model.sizes}
    if geometry and layout == "v41":
        config.update(
            engram_layer_ids=geometry.layers, engram_max_ngram_size=geometry.max_ngram,
            engram_n_heads=geometry.heads, engram_vocab_size=geometry.floor,
            engram_head_dim=ROW_VALUES, engram_pad_token_id=PAD,
            engram_compressed_vocab_size=geometry.compressed,
            engram_num_embeddings=[geometry.rows(layer) for layer in geometry.layers])
    elif geometry:
        config.update(
            layer_ids=geometry.layers, max_ngram_size=geometry.max_ngram,
            n_head_per_ngram=geometry.heads, n_embed_per_ngram=ROW_VALUES * geometry.heads,
            engram_vocab_size=[geometry.floor] * (geometry.max_ngram - 1), pad_id=PAD,
            seed=geometry.seed, compressed_vocab_size=geometry.compressed)
    return config


def tokenizer():
    vocab = {character: byte for byte, character in byte_characters().items()}
    added = [{"id": token, "content": content, "special": True, "single_word": False,
              "lstrip": False, "rstrip": False, "normalized": False}
             for token, content in SPECIALS.items()]
    return {"version": "1.0", "added_tokens": added, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": dict(sorted(vocab.items(), key=lambda e: e[1])),
                      "merges": []}}


def write_logits(model, geometry, held, out):
    """logits.json: what torch computes for a line, and of the held-out text."""
    tokens = np.array([[BOS, *PROMPT.encode()]])
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens), ids_of(geometry, tokens))[0, -1]
    nats = held_out_loss(model, geometry, held)
    (out / "logits.json").write_text(json.dumps(
        {"prompt": PROMPT, "logits": [round(x, 5) for x in logits.tolist()],
         "held_out_nats": round(nats, 5)}) + "\n")
    print(f"as exported: {nats:.4f} nats a byte held out, perplexity {np.exp(nats):.4f}")


def export(model, geometry, layout, held, out):
    out.mkdir(parents=True, exist_ok=True)
    st.write(out / "model.safetensors", tensors_of(model, layout))
    (out / "config.json").write_text(json.dumps(config_of(model, geometry, layout), indent=1) + "\n")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer(), indent=0) + "\n")
    if geometry:
        (out / "held_out.txt").write_bytes(held)
    write_logits(model, geometry, held, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layout", choices=("v41", "paper"), default="v41")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--without-memory", action="store_true",
                        help="the twin: its MLPs are wider by what the fusion costs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    fusion = V41Fusion if arguments.layout == "v41" else PaperFusion
    geometry = Geometry(TABLE_LAYERS, MAX_NGRAM, TABLE_HEADS, FLOOR)
    model = Decoder(VOCAB, HIDDEN, LAYERS, HEADS, MLP, geometry, ROW_VALUES, fusion)
    if arguments.without_memory:
        flops = model.flops_per_token(WINDOW)
        per_unit = 2 * 2 * HIDDEN * LAYERS  # of one more column of every MLP
        model = Decoder(VOCAB, HIDDEN, LAYERS, HEADS, MLP, None)
        wider = round((flops - model.flops_per_token(WINDOW)) / per_unit)
        model = Decoder(VOCAB, HIDDEN, LAYERS, HEADS, MLP + wider, None)
        geometry = None
    print(f"{model.dense_parameters()} dense parameters, "
          f"{sum(p.numel() for p in model.tables.parameters())} in tables, "
          f"{model.flops_per_token(WINDOW)} FLOPs a token at a context of {WINDOW}", flush=True)
    text, held = split()
    print(f"{len(text)} bytes to train on, {len(held)} held out; norm epsilon {EPS}", flush=True)
    train(model, geometry, text, held, arguments.steps)
    export(model, geometry, arguments.layout, held, arguments.out)


if __name__ == "__main__":
    main()
