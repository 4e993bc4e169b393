#!/usr/bin/env python3
"""lookup_numpy.py SERVER...: rows by their ids, then a sentence's rows by its tokens, in numpy."""
import sys

import engram_client
import numpy as np

with engram_client.Client(sys.argv[1:]) as client:
    table = client.table
    layer = table.layers[0]

    ids = np.array([0, 7, -1])  # -1: no row, zeros
    rows = client.lookup(layer, ids)
    print(f"layer {layer}: {rows.shape[0]} rows of {rows.shape[1]} bytes, "
          f"values of the first from {client.dequantize(rows)[0].min():.3g}")

    tokens = np.arange(5, dtype=np.uint32)
    outs = {each: np.empty((len(tokens), table.columns, table.row_bytes), np.uint8)
            for each in table.layers}
    sequence = engram_client.LookBack()  # one for each sequence
    try:
        ticket = client.submit_tokens(tokens, outs, sequence)
    except engram_client.EngramError as error:  # servers of a table without a tokenizer
        print(f"by tokens: {error.code}")
        sys.exit()
    for each in table.layers:  # in the order in which the model needs them
        ticket.wait(each)
        print(f"layer {each}: rows of {len(tokens)} tokens, {outs[each].nbytes} bytes")
