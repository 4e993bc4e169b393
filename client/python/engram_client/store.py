"""Tables under the names of an EngramStore: per-head ids of whole batches, one layer a call."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._engram_client import Client, Ticket


class EngramStoreConfig:
    """What the model takes one layer's table to be.

    table_vocab_sizes: rows of each head's table, in head order. row_bytes: bytes of a row.
    """

    def __init__(self, table_vocab_sizes: Sequence[int] = (), row_bytes: int = 0) -> None:
        self.table_vocab_sizes = list(table_vocab_sizes)
        self.row_bytes = row_bytes

    def __repr__(self) -> str:
        return (f"EngramStoreConfig(table_vocab_sizes={self.table_vocab_sizes}, "
                f"row_bytes={self.row_bytes})")


class _StoreLookup:
    """One lookup under way; its arrays are borrowed until `wait` has returned. Any thread."""

    def __init__(self, layer: int, ticket: Ticket) -> None:
        self._layer = layer
        self._ticket = ticket

    def wait(self, timeout: float | None = None) -> None:
        """As Ticket.wait."""
        self._ticket.wait(self._layer, timeout)

    def done(self) -> bool:
        return self._ticket.done(self._layer)


class EngramStore:
    """Layers of one client's table, by ids that count from their head's first row. Any thread.

    layers: {layer: EngramStoreConfig}. ValueError: a layer that the servers have not, or sizes that
    are not theirs.
    """

    def __init__(self, layers: Mapping[int, EngramStoreConfig], *, store_client: Client) -> None:
        if not layers:
            raise ValueError("layers names no layer")
        self._client = store_client
        self._layers = frozenset(layers)
        for layer, config in layers.items():
            self._check(layer, config)

    def lookup_into(self, layer: int, ids: Any, out: Any) -> None:
        """int64 (or int32) ids [B, L, H], -1 for a row of zeros; `out` uint8 [B, L, H, row_bytes],
        C-contiguous. Returns when the rows are in place. TypeError or ValueError: the arguments.
        EngramError: the rows cannot be had, and `out` holds anything."""
        self.lookup(layer, ids, out).wait()

    def lookup(self, layer: int, ids: Any, out: Any) -> _StoreLookup:
        """The same, to be waited for."""
        if layer not in self._layers:
            raise ValueError(f"layer {layer} is none of the store's {sorted(self._layers)}")
        return _StoreLookup(layer, self._client.submit({layer: (ids, out)}, per_column=True))

    def _check(self, layer: int, config: EngramStoreConfig) -> None:
        table = self._client.table
        if layer not in table.layers:
            raise ValueError(f"layer {layer}: the servers' tables are of layers "
                             f"{list(table.layers)}")
        if config.row_bytes != table.row_bytes:
            raise ValueError(f"layer {layer}: row_bytes is {config.row_bytes}, the servers' rows "
                             f"have {table.row_bytes}")
        sizes, theirs = list(config.table_vocab_sizes), self._client.layer(layer).column_rows
        if len(sizes) != len(theirs):
            raise ValueError(f"layer {layer}: table_vocab_sizes is of {len(sizes)} heads, the "
                             f"servers have {len(theirs)}")
        for head, (own, served) in enumerate(zip(sizes, theirs)):
            if own != served:
                raise ValueError(f"layer {layer}, head {head}: table_vocab_sizes is {own} rows, "
                                 f"the servers have {served}")
