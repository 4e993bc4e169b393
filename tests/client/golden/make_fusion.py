#!/usr/bin/env python3
"""Makes fusion.json: what the fusions must compute, by numpy in f64, apart from the C++.

make_fusion.py > fusion.json

Inputs are not in the file: both sides make them by `numbers` (tests/client/fusion_test.cc has it
again), whose values every type holds exactly. Shapes have ends that fill no register.
"""
import json

import numpy as np

CASES = [
    {"name": f"{fusion} {rows} rows, {weights} weights, {hidden} hidden", "fusion": fusion,
     "rows": rows, "weights": weights, "hidden_type": hidden, "sequences": 2, "tokens": 19,
     "columns": 3, "values": 32, "hidden": 40, "branches": branches, "kernel": 4, "dilation": 3,
     "eps": 1e-6, "conv_eps": 1e-5}
    for fusion, rows, weights, hidden, branches in [
        ("v41", "fp8_e4m3", "bf16", "f32", 4), ("v41", "bf16", "f32", "bf16", 2),
        ("v41", "f32", "bf16", "bf16", 1), ("paper", "bf16", "bf16", "f32", 4),
        ("paper", "f32", "f32", "bf16", 2), ("paper", "fp8_e4m3", "f32", "f32", 1)]]


def numbers(seed, *shape):
    """Multiples of 1/64 in [-1, 1)."""
    index = np.arange(np.prod(shape), dtype=np.uint64)
    mixed = (index * 2654435761 + seed * 40503 + 12345) % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 % 2**32
    return ((mixed >> 25).astype(np.float64) / 64 - 1).reshape(shape)


def table_rows(case):
    """[sequences, tokens, columns, values]."""
    shape = [case[key] for key in ("sequences", "tokens", "columns", "values")]
    if case["rows"] != "fp8_e4m3":
        return numbers(1, *shape)
    byte = ((numbers(1, *shape) + 1) * 64).astype(np.int64) * 2  # both signs, no NaN
    field, fraction = byte >> 3 & 15, byte & 7
    value = np.where(field == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0**(field - 7.0))
    scale = ((numbers(2, *shape[:3], 1) + 1) * 2).astype(np.int64) + 116
    return np.where(byte & 0x80, -value, value) * 2.0**(scale - 127.0)


def norm(x, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def gate_of(hidden, key, q, k, eps):
    score = (norm(hidden, eps) * q * norm(key, eps) * k).sum(-1) / np.sqrt(hidden.shape[-1])
    return 1 / (1 + np.exp(-np.sign(score) * np.sqrt(np.maximum(np.abs(score), 1e-6))))


def run(case):
    size, branches = case["hidden"], case["branches"]
    rows = table_rows(case)
    sequences, tokens = rows.shape[:2]
    dead = numbers(3, sequences, tokens) > 0.75
    rows = np.where(dead[..., None, None], 0, rows).reshape(sequences, tokens, -1)
    hidden = numbers(4, sequences, tokens, branches, size)
    q, k = 1 + numbers(5, branches, size) / 2, 1 + numbers(6, branches, size) / 2
    if case["fusion"] == "v41":
        kv = rows @ (numbers(7, (branches + 1) * size, rows.shape[-1]) / 8).T
        kv = kv.reshape(sequences, tokens, branches + 1, size)
        gate = gate_of(hidden, kv[:, :, :branches], q, k, case["eps"])
        added = gate[..., None] * kv[:, :, branches:]
    else:
        keys = [rows @ (numbers(10 + b, size, rows.shape[-1]) / 8).T + numbers(20 + b, size)
                for b in range(branches)]
        value = rows @ (numbers(8, size, rows.shape[-1]) / 8).T + numbers(9, size)
        gate = gate_of(hidden, np.stack(keys, axis=2), q, k, case["eps"])
        gated = gate[..., None] * value[:, :, None]
        gated = np.where(dead[..., None, None], 0, gated)
        normed = norm(gated, case["conv_eps"]) * (1 + numbers(30, branches, size) / 2)
        conv = numbers(31, branches, size, case["kernel"])
        mixed = np.zeros_like(normed)
        for t in range(tokens):
            for tap in range(case["kernel"]):
                at = t - (case["kernel"] - 1 - tap) * case["dilation"]
                if at >= 0:
                    mixed[:, t] += normed[:, at] * conv[..., tap]
        added = gated + mixed / (1 + np.exp(-mixed))
    hidden = np.where(dead[..., None, None], hidden, hidden + added)
    return {**case, "expected": [float(f"{x:.8g}") for x in hidden.ravel()],
            "gates": [float(f"{x:.8g}") for x in np.where(dead[..., None], 0, gate).ravel()]}


print("{\"cases\":[" + ",\n".join(json.dumps(run(case), separators=(",", ":")) for case in CASES) +
      "]}")
