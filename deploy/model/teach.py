#!/usr/bin/env python3
"""Trains the tables of a model further, on another text, and nothing else of it.

teach.py MODEL OUT_DIR [--steps N]

MODEL is what train.py has exported (V4.1's layout). Text: the Jargon File (Debian package
jargon-text; in the public domain), and a third as much of what the model was trained on, so that it
keeps what it knows. Needs what train.py needs. OUT_DIR gets the tables alone, as a checkpoint of the
same geometry that engramd serves and engramctl makes a delta to: config.json, tokenizer.json,
model.safetensors; held_out.txt, text that was not trained on, and logits.json, what torch computes
with these tables. Rows that nothing has changed keep their bytes.
"""
import argparse
import gzip
import json
import pathlib
import shutil
import sys

import train  # noqa: I001  (names a package that is missing)
import numpy as np
import torch

import safetensors_file as st

JARGON = pathlib.Path("/usr/share/doc/jargon-text/jargon.txt.gz")
BLOCK = 20  # paragraphs; every twentieth block is held out
HELD_OUT_BYTES = 32 * 1024
ASCII = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
                       "\u2014": "--", "\u2026": "...", "\u00a0": " ", "\u00d7": "x"})


def paragraphs():
    """The text in ASCII, a paragraph a line; tables and drawings are left out."""
    try:
        text = gzip.decompress(JARGON.read_bytes()).decode()
    except FileNotFoundError:
        sys.exit("error: the Debian package jargon-text is not installed")
    found = [" ".join(part.split()) + "\n" for part in text.translate(ASCII).split("\n\n")]
    return [part for part in found if len(part) > 1 and part.isascii()]


def split():
    """(training bytes, held-out bytes)."""
    every = paragraphs()
    blocks = ["".join(every[at:at + BLOCK]) for at in range(0, len(every), BLOCK)]
    held = "".join(text for i, text in enumerate(blocks) if i % 20 == 10)
    kept = "".join(text for i, text in enumerate(blocks) if i % 20 != 10)
    return kept.encode(), held.encode()[:HELD_OUT_BYTES]


def load(directory):
    """(model, geometry, tensors): what train.py has exported."""
    config = json.loads((directory / "config.json").read_text())
    if "engram_layer_ids" not in config:
        sys.exit(f"error: {directory}/config.json has no tables in V4.1's layout")
    sizes = config["decoder"]
    geometry = train.Geometry(config["engram_layer_ids"], config["engram_max_ngram_size"],
                              config["engram_n_heads"], config["engram_vocab_size"])
    model = train.Decoder(sizes["vocab"], sizes["hidden"], sizes["layers"], sizes["heads"],
                          sizes["mlp"], geometry, config["engram_head_dim"], train.V41Fusion)
    tensors = st.read(directory / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            written = train.checkpoint_name(name, "v41")
            if name.startswith("tables."):
                values = st.of_fp8(tensors[f"{written}.weight"][1], tensors[f"{written}.scale"][1])
            else:
                values = st.of_bf16(tensors[written][1])
                parameter.requires_grad = False
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))
    return model, geometry, tensors


def tables_of(model, old):
    """The tensors of the tables. A row whose numbers are what they were keeps its bytes."""
    tensors, changed = {}, 0
    new = train.tensors_of(model, "v41")
    for layer in model.tables:
        weight, scale = (f"{train.checkpoint_name(f'tables.{layer}', 'v41')}.{part}"
                         for part in ("weight", "scale"))
        (dtype, codes), (scale_dtype, scales) = new[weight], new[scale]
        before, before_scales = old[weight][1], old[scale][1]
        same = (st.of_fp8(codes, scales) == st.of_fp8(before, before_scales)).all(-1)
        changed += int((~same).sum())
        tensors[weight] = (dtype, np.where(same[:, None], before, codes))
        tensors[scale] = (scale_dtype, np.where(same[:, None], before_scales, scales))
    return tensors, changed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model, geometry, old = load(arguments.model)
    text, held = split()
    known, known_held = train.split()
    for name, part in (("the new text", held), ("the old", known_held)):
        print(f"{name}, held out: {train.held_out_loss(model, geometry, part):.4f} nats a byte",
              flush=True)
    train.train(model, geometry, text + known[:len(text) // 3], held, arguments.steps)
    tensors, changed = tables_of(model, old)
    arguments.out.mkdir(parents=True, exist_ok=True)
    st.write(arguments.out / "model.safetensors", tensors)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(arguments.model / name, arguments.out / name)
    (arguments.out / "held_out.txt").write_bytes(held)
    print(f"{changed} of {sum(geometry.rows(layer) for layer in geometry.layers)} rows changed")
    train.write_logits(model, geometry, held, arguments.out)
    nats = train.held_out_loss(model, geometry, known_held)
    print(f"the old text, as exported: {nats:.4f} nats a byte, perplexity {np.exp(nats):.4f}")


if __name__ == "__main__":
    main()
