"""As much of vLLM as engram_client.vllm meets: the same names, run on the CPU by one process.

Importing it puts it in the place of `vllm`. Shapes and order of calls are those of vLLM's
models/deepseek_v41: hashes of the whole batch, prepare_embeddings of every layer, then the layers.
"""
import functools
import sys
import threading
import types

import torch
from torch import nn


class BreakableCUDAGraphCapture:
    """While active, functions that break the graph are kept; replay calls them again."""
    current = None

    def __init__(self):
        self._breaks = []

    def __enter__(self):
        BreakableCUDAGraphCapture.current = self
        return self

    def __exit__(self, *_):
        BreakableCUDAGraphCapture.current = None

    def replay(self):
        for call in self._breaks:
            call()

    @staticmethod
    def is_active():
        return BreakableCUDAGraphCapture.current is not None


def eager_break_during_capture(function):
    @functools.wraps(function)
    def wrapper(*args):
        capture = BreakableCUDAGraphCapture.current
        if capture is not None:
            capture._breaks.append(functools.partial(function, *args))
        assert function(*args) is None, "what it returns is lost when a graph is replayed"
    return wrapper


micro_batch = threading.local()
tensor_parallel = types.SimpleNamespace(rank=0, size=1)

_MODULES = {
    "vllm": {}, "vllm.compilation": {}, "vllm.v1": {}, "vllm.v1.worker": {},
    "vllm.compilation.breakable_cudagraph": {
        "BreakableCUDAGraphCapture": BreakableCUDAGraphCapture,
        "eager_break_during_capture": eager_break_during_capture},
    "vllm.v1.worker.ubatching": {
        "dbo_current_ubatch_id": lambda: getattr(micro_batch, "id", 0)},
    "vllm.distributed": {
        "get_tensor_model_parallel_rank": lambda: tensor_parallel.rank,
        "get_tensor_model_parallel_world_size": lambda: tensor_parallel.size},
}
for _name, _members in _MODULES.items():
    _module = types.ModuleType(_name)
    _module.__path__ = []
    _module.__dict__.update(_members)
    sys.modules[_name] = _module


class Engram(nn.Module):
    """vLLM's layer: the embedding and its staging are made by methods that a subclass replaces."""

    def __init__(self, layout, layer_hash_index, max_tokens):
        super().__init__()
        self.layer_hash_index = layer_hash_index
        self.embed_tokens = self._create_embedding(layout, layer_hash_index)
        columns = (layout.max_ngram_size - 1) * layout.n_heads
        self.wkv = nn.Linear(columns * layout.head_dim, 2, bias=False)
        self._init_staging(max_tokens, layout.head_dim)

    def embed(self, hash_ids):
        rows = self._ready_rows(hash_ids.shape[0])
        return rows[:, :self.embed_tokens.n_hash_cols]  # tensor parallel: gathered from all ranks


class Runner:
    """Calls the seams as vLLM's model does; gives each layer's rows."""

    def __init__(self, engram_class, layout, max_tokens):
        self.engrams = [engram_class(layout, index, max_tokens)
                        for index in range(len(layout.layer_ids))]

    def prepare(self, hashes):
        for engram in self.engrams:
            engram.prepare_embeddings(hashes[:, engram.layer_hash_index])

    def layers(self, hashes):
        return [engram.embed(hashes[:, engram.layer_hash_index]) for engram in self.engrams]

    def forward(self, hashes):
        self.prepare(hashes)
        return self.layers(hashes)


def pad(hashes, tokens):
    """A batch padded for a CUDA graph."""
    return torch.cat([hashes, hashes.new_full((tokens - len(hashes), *hashes.shape[1:]), -1)])
