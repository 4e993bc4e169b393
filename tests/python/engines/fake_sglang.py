"""As much of SGLang as engram_client.sglang meets: the same names, run on the CPU.

Importing it puts it in the place of `sglang`. Order of calls as in SGLang's models/deepseek_v4.py:
the hasher's ids [tokens, layers, columns], a prefetch of every layer, then the layers.
"""
import functools
import sys
import types

from torch import nn


class Graph:
    """While one is captured, functions that break it are kept and their stubs run; replay calls them."""
    current = None

    def __init__(self):
        self._breaks = []

    def __enter__(self):
        Graph.current = self
        return self

    def __exit__(self, *_):
        Graph.current = None

    def replay(self):
        for call in self._breaks:
            call()


def eager_on_graph(enable, capture_stub=None):
    assert enable

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            if Graph.current is None:
                return function(*args)
            Graph.current._breaks.append(functools.partial(function, *args))
            return capture_stub(*args)
        return wrapper
    return decorate


_path = "sglang.srt.model_executor.runner_backend_utils.breakable_cuda_graph".split(".")
for _depth in range(1, len(_path) + 1):
    _module = types.ModuleType(".".join(_path[:_depth]))
    _module.__path__ = []
    sys.modules[_module.__name__] = _module
_module.eager_on_graph = eager_on_graph


class Engram(nn.Module):
    def __init__(self, embed, layout, layer):
        super().__init__()
        self.layer_hash_index = layout.layer_ids.index(layer)
        self.embed = embed
        self.wkv = nn.Linear(8, 2, bias=False)

    def forward(self, hash_ids, forward_batch=None):
        return self.embed(hash_ids, forward_batch, cp_all_tokens=False)


class Runner:
    """Calls the seams as SGLang's model does; gives each layer's rows."""

    def __init__(self, make_embed, layout):
        self.engrams = [Engram(make_embed(layer), layout, layer) for layer in layout.layer_ids]

    def prefetch(self, ids):
        for engram in self.engrams:
            engram.embed.prefetch(ids[:, engram.layer_hash_index])

    def forward(self, ids):
        self.prefetch(ids)
        return [engram(ids[:, engram.layer_hash_index]) for engram in self.engrams]
