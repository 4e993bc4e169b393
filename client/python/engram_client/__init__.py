"""Rows of Engram tables from memory servers, into numpy arrays, buffers and torch tensors.

    client = engram_client.Client(["10.0.0.1:50051"])
    rows = client.lookup(1, ids)                        # uint8 [n, row_bytes]
    ticket = client.submit({1: (ids, out)})             # returns in microseconds
    ticket.wait(1)                                      # out is in place
"""
from __future__ import annotations

from ._engram_client import (WORD_ERROR, WORD_PENDING, WORD_READY, Client, EngramError, LookBack,
                             Prefetch, Slot, Table, TableLayer, Ticket, __version__)
from .metrics import Metric, text
from .store import EngramStore, EngramStoreConfig

__all__ = ["Client", "EngramError", "EngramStore", "EngramStoreConfig", "LookBack", "Metric",
           "Prefetch", "Slot", "Table", "TableLayer", "Ticket", "WORD_ERROR", "WORD_PENDING",
           "WORD_READY", "__version__"]



def _metrics(self: Client) -> list[Metric]:
    """What the client counts; samples of one name come one behind the other."""
    return [Metric(*sample) for sample in self._metrics()]


def _metrics_text(self: Client) -> str:
    """The same as Prometheus reads it (text format 0.0.4)."""
    return text(self.metrics())


Client.metrics = _metrics
Client.metrics_text = _metrics_text
