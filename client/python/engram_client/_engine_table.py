"""What every inference engine's module needs to know of the remote tables.

One client a process and configuration, the comparison of an engine's geometry with the servers', and
the names of the checkpoint's tensors that a worker does not load.
"""
from __future__ import annotations

import json
import os
import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from engram_client import Client

_clients: "weakref.WeakValueDictionary[tuple[int, str], Client]" = weakref.WeakValueDictionary()
_clients_lock = threading.Lock()


def shared_client(config: str | Mapping[str, Any] | None = None) -> Client:
    """The process's client for `config`; it lives while somebody holds it. Any thread.

    A JSON object or a dict, with the keys of engram_client_options; None: the environment
    (ENGRAM_CONFIG and ENGRAM_*). A process made by fork gets a client of its own. Raises ValueError
    for what is no JSON object, EngramError as connecting does.
    """
    if config is None:
        settings = {name: value for name, value in os.environ.items() if name.startswith("ENGRAM_")}
    elif isinstance(config, str):
        try:
            settings = json.loads(config)
        except ValueError as error:
            raise ValueError(f"the client's configuration is not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"the client's configuration is {config}, not a JSON object")
    else:
        settings = dict(config)
    key = (os.getpid(), json.dumps([config is None, settings], sort_keys=True))
    with _clients_lock:
        client = _clients.get(key)
        if client is None:
            client = Client.from_env() if config is None else Client.from_json(json.dumps(settings))
            _clients[key] = client
        return client


def check_geometry(client: Client, layer: int, head_sizes: Sequence[int], head_dim: int) -> None:
    """Raises ValueError where the engine's table of `layer` is not the servers'.

    `head_sizes`: rows of each hash column in column order (the engine's primes); `head_dim`: values
    of a row.
    """
    table = client.table
    if layer not in table.layers:
        raise ValueError(f"layer {layer}: the servers' tables are of layers {list(table.layers)}")
    if head_dim != table.values:
        raise ValueError(f"layer {layer}: head dim {head_dim}, the servers' rows hold "
                         f"{table.values} values")
    theirs = [int(rows) for rows in client.layer(layer).column_rows]
    if len(head_sizes) != len(theirs):
        raise ValueError(f"layer {layer}: {len(head_sizes)} hash columns, the servers have "
                         f"{len(theirs)}")
    for column, (own, served) in enumerate(zip(head_sizes, theirs)):
        if own != served:
            raise ValueError(f"layer {layer}, column {column}: {own} rows, the servers have {served}")


def head_sizes(layout: Any, layer: int) -> tuple[int, ...]:
    """Rows of each column of `layer`, from an engine's EngramLayout (layer_ids, and primes as
    [layer][order][head])."""
    primes = layout.primes[layout.layer_ids.index(layer)]
    return tuple(int(size) for order in primes for size in order)


# As the checkpoint has them, and as vLLM's mapper renames them.
_TABLE_WEIGHT = re.compile(
    r"(^|\.)engram\.embed(_tokens)?\.(weight|scale|weight_scale|weight_scale_inv)$")


def is_table_weight(name: str) -> bool:
    """Whether a checkpoint's tensor is (part of) a table, which servers hold and workers do not."""
    return _TABLE_WEIGHT.search(name) is not None


def drop_table_weights(weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """A model loader's (name, tensor) pairs without the tables."""
    return ((name, tensor) for name, tensor in weights if not is_table_weight(name))
