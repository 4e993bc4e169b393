"""Engram tables of DeepSeek-V4.1 on memory servers, for vLLM.

    from engram_client.vllm import RemoteEngram, drop_table_weights
    class EngramRemote(RemoteEngram, Engram): ...      # vLLM's Engram; the decoder layer makes this one
    self.model.load_weights(drop_table_weights(weights))

vLLM hashes the whole batch at forward entry, int32 [tokens, layers, columns], and hands each layer its
[tokens, columns] in `prepare_embeddings`; the layer takes its rows in `_ready_rows`. This module puts
a lookup between the two. No table is allocated and no parameter made, so the loader must not meet the
tables' tensors.

Written against vllm-project/vllm, vllm/models/deepseek_v41/nvidia/engram.py of commit
d444c3d1d33e93cdcca818ceed95c1dfb2401c2a (first named vllm/models/deepseek_v4_1: 1c0e50e5 and b3805074
were read too) and pull request 57023 (tables in Mooncake), whose seams it takes. It has not run
inside vLLM, nor on a GPU: its tests call the seams on the CPU, in the order in which vLLM does.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import torch
from torch import nn

from engram_client import Client
from engram_client._engine_table import (check_geometry, drop_table_weights, head_sizes,
                                         is_table_weight, shared_client)
from engram_client._layer_rows import LayerRows

try:
    from vllm.compilation.breakable_cudagraph import (BreakableCUDAGraphCapture,
                                                      eager_break_during_capture)
    from vllm.v1.worker.ubatching import dbo_current_ubatch_id
    _capturing = BreakableCUDAGraphCapture.is_active
except ImportError:
    def eager_break_during_capture(function: Any) -> Any:
        return function

    def dbo_current_ubatch_id() -> int:
        return 0

    def _capturing() -> bool:
        return False

__all__ = ["RemoteEngram", "RemoteEngramEmbedding", "drop_table_weights", "is_table_weight"]


class RemoteEngramEmbedding(nn.Module):
    """Stands where vLLM has ParallelEngramEmbedding: this rank's hash heads of one layer's table,
    whose rows are elsewhere.

    layer: the model's layer id. head_sizes: rows of each hash column (the layout's primes, order-major).
    dim: values of a row. Heads are divided as vLLM does: ceil(columns / tp_size) to each rank, so the
    last ranks may have fewer; their missing ones are zeros. packed: rows as they are served, for an
    engine with a kernel that dequantizes them. config, client: as shared_client, or the client itself.
    Raises ValueError where the geometry is not the servers' or a rank has no heads.

    Threads: one at a time for each micro-batch, which vLLM's current thread tells.
    """

    # What vLLM's Engram asks of its embedding: tables are whole for each data-parallel replica.
    dp_size = 1
    cpu_offload = False

    def __init__(self, layer: int, head_sizes: Sequence[int], dim: int, *, tp_rank: int = 0,
                 tp_size: int = 1, packed: bool = False,
                 config: str | Mapping[str, Any] | None = None,
                 client: Optional[Client] = None) -> None:
        super().__init__()
        if not 0 <= tp_rank < tp_size:
            raise ValueError(f"rank {tp_rank} of {tp_size}")
        self.layer = layer
        self.dim = dim
        self.tp_size = tp_size
        self.num_embeddings = sum(head_sizes)
        self.n_hash_cols = len(head_sizes)
        self.part_n_hash_cols = -(-self.n_hash_cols // tp_size)
        self.head_start = tp_rank * self.part_n_hash_cols
        if self.head_start >= self.n_hash_cols:
            raise ValueError(f"rank {tp_rank} of {tp_size} has none of {self.n_hash_cols} heads")
        self.packed = packed
        self._client = client or shared_client(config)
        check_geometry(self._client, layer, head_sizes, dim)
        self._rows: Optional[LayerRows] = None

    def allocate(self, max_tokens: int, device: torch.device | str = "cpu") -> None:
        """Makes room for steps of up to max_tokens. Once, before the first step."""
        head_end = min(self.head_start + self.part_n_hash_cols, self.n_hash_cols)
        self._rows = LayerRows(self._client, self.layer, (self.head_start, head_end),
                               out_columns=self.part_n_hash_cols, max_tokens=max_tokens,
                               ids_dtype=torch.int32, device=device, packed=self.packed)

    def prepare_embeddings(self, hash_ids: torch.Tensor) -> None:
        """Asks for a step's rows and returns: int32 [tokens, n_hash_cols] with all ranks' columns,
        row ids of the layer's table, -1 for rows that are zeros. The tensor is copied. Raises
        TypeError or ValueError for another dtype, shape or device, and for more than max_tokens."""
        self._start(hash_ids)

    def _ready_rows(self, num_tokens: int) -> torch.Tensor:
        """Waits; this rank's rows: bfloat16 [num_tokens, part_n_hash_cols, dim], or packed uint8
        [num_tokens, part_n_hash_cols, row_bytes]. A view of memory that never moves, good until the
        next step's. num_tokens may be a CUDA graph's padded batch: rows that the step did not ask for
        are zeros. Raises EngramError where rows cannot be had, RuntimeError without a
        prepare_embeddings before."""
        self._finish()
        return self._allocated().rows(num_tokens, dbo_current_ubatch_id())

    def forward(self, hash_ids: torch.Tensor) -> torch.Tensor:
        """Both at once; nothing hides the way to the servers."""
        self.prepare_embeddings(hash_ids)
        return self._ready_rows(hash_ids.shape[0])

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Takes what a checkpoint has for this module and keeps none of it; names what it took."""
        return {name for name, _ in weights}

    # Host work between a CUDA graph's segments. While one is captured ids hold nothing yet, so there
    # is no lookup; its replay calls these again.
    @eager_break_during_capture
    def _start(self, hash_ids: torch.Tensor) -> None:
        if not _capturing():
            self._allocated().start(hash_ids, dbo_current_ubatch_id())

    @eager_break_during_capture
    def _finish(self) -> None:
        if not _capturing():
            self._allocated().finish(dbo_current_ubatch_id())

    def _allocated(self) -> LayerRows:
        if self._rows is None:
            raise RuntimeError(f"layer {self.layer}: allocate() comes before the first step")
        return self._rows


class RemoteEngram:
    """Mixed into vLLM's Engram, before it: its rows come from servers (environment: ENGRAM_CONFIG,
    ENGRAM_*). The rest of the layer (wkv, gate, gathering of heads) stays vLLM's."""

    embed_tokens: RemoteEngramEmbedding

    def _create_embedding(self, layout: Any, layer_hash_index: int) -> RemoteEngramEmbedding:
        from vllm.distributed import (get_tensor_model_parallel_rank,
                                      get_tensor_model_parallel_world_size)

        layer = layout.layer_ids[layer_hash_index]
        return RemoteEngramEmbedding(layer, head_sizes(layout, layer), layout.head_dim,
                                     tp_rank=get_tensor_model_parallel_rank(),
                                     tp_size=get_tensor_model_parallel_world_size())

    def _init_staging(self, max_tokens: int, head_dim: int) -> None:
        # vLLM makes models under torch.device("cuda"): where a tensor comes to be is the model's.
        self.embed_tokens.allocate(max_tokens, torch.empty(0).device)

    def prepare_embeddings(self, hash_ids: torch.Tensor) -> None:
        self.embed_tokens.prepare_embeddings(hash_ids)

    def _ready_rows(self, num_tokens: int) -> torch.Tensor:
        return self.embed_tokens._ready_rows(num_tokens)
