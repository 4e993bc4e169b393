"""Engram tables of DeepSeek-V4.1 on memory servers, for SGLang.

    from engram_client.sglang import RemoteEngramEmbedding, drop_table_weights
    engram.embed = RemoteEngramEmbedding.from_layout(layout, layer_id, max_tokens, device)
    ids = hasher(input_ids, forward_batch)             # int64 [tokens, layers, columns]
    for each layer with a table: layer.engram.embed.prefetch(ids[:, layer.engram.layer_hash_index])
    super().load_weights(drop_table_weights(weights))

SGLang's Engram calls `self.embed(hash_ids, forward_batch)` at its layer; the rows of all layers are
asked for before the first. Every rank takes whole tokens, as SGLang's other host tables do. No table
is allocated and no parameter made.

Written against sgl-project/sglang, python/sglang/srt/layers/engram.py of commit
4be612a4e88844801456247768a23ca6b9bdf010, and pull request 39205 (tables in Mooncake, layers/
engram_mooncake.py of 551bf4e6b918b1359adbe7ef1c9c2d82d3cd738d), whose seams it takes. It has not run
inside SGLang, nor on a GPU: its tests call the seams on the CPU, in the order in which SGLang does.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

import torch
from torch import nn

from engram_client import Client
from engram_client._engine_table import (check_geometry, drop_table_weights, head_sizes,
                                         is_table_weight, shared_client)
from engram_client._layer_rows import LayerRows

try:
    from sglang.srt.model_executor.runner_backend_utils.breakable_cuda_graph import eager_on_graph
except ImportError:
    def eager_on_graph(enable: bool, capture_stub: Any = None) -> Callable[[Any], Any]:
        return lambda function: function

__all__ = ["RemoteEngramEmbedding", "drop_table_weights", "is_table_weight"]


class RemoteEngramEmbedding(nn.Module):
    """Stands where SGLang has EngramEmbedding: one layer's table, whose rows are elsewhere.

    layer: the model's layer id. head_sizes: rows of each hash column (the layout's primes, order-major).
    dim: values of a row. config, client: as shared_client, or the client itself. Raises ValueError
    where the geometry is not the servers'.

    Threads: one at a time.
    """

    # What SGLang's Engram asks of its embedding.
    _shared = False
    host_table = None
    mxfp8_gather_ready = False

    def __init__(self, layer: int, head_sizes: Sequence[int], dim: int, max_tokens: int,
                 device: torch.device | str = "cpu", *,
                 config: str | Mapping[str, Any] | None = None,
                 client: Optional[Client] = None) -> None:
        super().__init__()
        self.layer = layer
        self.dim = dim
        client = client or shared_client(config)
        check_geometry(client, layer, head_sizes, dim)
        columns = len(head_sizes)
        self._rows = LayerRows(client, layer, (0, columns), out_columns=columns,
                               max_tokens=max_tokens, ids_dtype=torch.int64, device=device)
        self._in_place = False  # waited for, and not taken yet

    @classmethod
    def from_layout(cls, layout: Any, layer: int, max_tokens: int,
                    device: torch.device | str = "cpu", **options: Any) -> "RemoteEngramEmbedding":
        """From SGLang's EngramLayout."""
        return cls(layer, head_sizes(layout, layer), layout.head_dim, max_tokens, device, **options)

    # Host work between a CUDA graph's segments; nothing is asked for while one is captured.
    @eager_on_graph(True, capture_stub=lambda self, ids: None)
    def prefetch(self, ids: torch.Tensor) -> None:
        """Asks for a step's rows and returns: int64 [tokens, columns], row ids of the layer's table,
        -1 for a row that is zeros. A token whose ids are all 0 is padding, as SGLang's hasher leaves
        it, and gets zeros. The tensor is copied. Rows that were asked for and not taken are dropped.
        Raises TypeError or ValueError for another dtype, shape or device, and for more than
        max_tokens."""
        padding = (ids == 0).all(-1) if isinstance(ids, torch.Tensor) and ids.dim() == 2 else None
        self._in_place = False
        self._rows.start(ids, dead=padding)

    @eager_on_graph(True, capture_stub=lambda self: None)
    def wait(self) -> None:
        """Returns when the rows are in place. Again: nothing to do. Raises EngramError where rows
        cannot be had, RuntimeError without a prefetch before."""
        if not self._in_place:
            self._rows.finish()
            self._in_place = True

    def forward(self, ids: torch.Tensor, forward_batch: Any = None, *,
                cp_all_tokens: bool = False) -> torch.Tensor:
        """Waits; the rows of the step that was prefetched: bfloat16 [tokens, columns, dim], a view of
        memory that never moves, good until the next step's. Of `ids` the number of tokens counts (a
        CUDA graph's padded batch, say): rows that the prefetch did not ask for are zeros."""
        self.wait()
        self._in_place = False
        return self._rows.rows(ids.shape[0])

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Takes what a checkpoint has for this module and keeps none of it; names what it took."""
        return {name for name, _ in weights}

    def finish_load(self, label: str = "") -> None:
        """SGLang calls it when weights are loaded: there are none."""
