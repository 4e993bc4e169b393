#!/usr/bin/env python3
"""step_torch.py SERVER...: steps of a model whose layers read rows from a slot, in torch."""
import sys

import engram_client
import torch

STEPS, TOKENS = 3, 4

with engram_client.Client(sys.argv[1:]) as client:
    table = client.table
    # Two slots in turns: a step is asked for while the one before computes.
    slots = [engram_client.Slot(client, TOKENS) for _ in range(2)]
    firsts = {layer: torch.from_numpy(client.layer(layer).column_first.astype("int64"))
              for layer in table.layers}

    def submit(step):  # ids [tokens, columns] of each layer; a model hashes its n-grams
        ids = {layer: first + torch.full((TOKENS, 1), step) for layer, first in firsts.items()}
        slots[step % 2].submit_ids({layer: each.contiguous() for layer, each in ids.items()})

    submit(0)
    for step in range(STEPS):
        if step + 1 < STEPS:
            submit(step + 1)
        slot, hidden = slots[step % 2], torch.zeros(TOKENS)
        for layer in table.layers:
            slot.wait(layer)  # layers before it have computed meanwhile
            rows = torch.from_numpy(client.dequantize(slot.rows(layer)))
            hidden += rows.sum(dim=(1, 2))
        print(f"step {step}: {hidden.tolist()}")
