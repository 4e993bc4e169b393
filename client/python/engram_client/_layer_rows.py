"""One layer's rows, step after step: asked for by row ids, handed out as a torch tensor.

The way of a step: `start` (ids to the host, a slot is submitted) -> the servers -> `finish` (waits,
copies the slot's bytes to the device, dequantizes) -> `rows` (a view whose address never changes).

The CUDA side of this file (pinned slots, ids and rows copied on streams) has run on no GPU; the CPU
side takes the same way without the copies.
"""
from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Optional

import torch

from engram_client import Client, EngramError, Slot

_CHUNK_TOKENS = 256  # dequantized at once; bounds what it takes in temporaries


def to_bf16(packed: torch.Tensor, values: int, out: torch.Tensor) -> None:
    """Dequantizes `packed` [..., values + scales] uint8 (e4m3 values, then their ue8m0 scales) into
    `out` [..., values] bfloat16: value x 2^(scale - 127), rounded to nearest even.

    Integer arithmetic and one multiplication, on any device and without float8 types. 0x7F, 0xFF
    and scale 255 are NaN, scale 0 is 2^-127.
    """
    scales = packed.shape[-1] - values
    byte = packed[..., :values].to(torch.int16)
    # e4m3's bits in a half's places; its exponent's bias is 7, a half's 15.
    half = ((byte & 0x80) << 8) | ((byte & 0x7F) << 7)
    value = half.view(torch.float16).float() * 256.0
    value = value.masked_fill((byte & 0x7F) == 0x7F, float("nan"))
    exponent = packed[..., values:].to(torch.int32)
    scale = exponent << 23
    scale = scale.masked_fill(exponent == 0, 1 << 22).masked_fill(exponent == 255, 0x7FC00000)
    scale = scale.view(torch.float32).unsqueeze(-1)
    blocks = value.view(*value.shape[:-1], scales, values // scales)
    out.copy_((blocks * scale).view(value.shape))


class _Buffer:
    """A slot and the ids that its step borrows. Free for the next step once `copied` has passed."""

    def __init__(self, client: Client, layer: int, columns: tuple[int, int], max_tokens: int,
                 ids_dtype: torch.dtype, pinned: bool) -> None:
        row_bytes = client.table.row_bytes
        heads = columns[1] - columns[0]
        self.rows = torch.empty((max_tokens, heads, row_bytes), dtype=torch.uint8,
                                pin_memory=pinned)
        self.ids = torch.empty((max_tokens, heads), dtype=ids_dtype, pin_memory=pinned)
        self.slot = Slot(client, max_tokens, layers=[layer], columns=columns,
                         memory=[self.rows.numpy()])
        self.submitted: Optional[Future[None]] = None
        self.copied = torch.cuda.Event() if pinned else None


class _Lane:
    """What one micro-batch has: two buffers used in turn, and the output at its one address."""

    def __init__(self, buffers: tuple[_Buffer, _Buffer], out: torch.Tensor) -> None:
        self.buffers = buffers
        self.out = out  # rows at and beyond `tokens` are zeros
        self.tokens = 0
        self.started: Optional[_Buffer] = None
        self.started_tokens = 0


class LayerRows:
    """Rows of hash columns `columns` of one layer, for a model on `device`.

    `start`, `finish` and `rows` of one lane come in this order, from one thread at a time; lanes (one
    a micro-batch) are independent. A lane's output keeps its address, so CUDA graphs may bake it, and
    holds a step's rows until the next `finish`.

    out_columns: columns of the output, the last ones zeros where a rank has fewer than others.
    packed: rows as they are served, uint8 [tokens, out_columns, row_bytes]; else bfloat16 [tokens,
    out_columns, values].
    """

    def __init__(self, client: Client, layer: int, columns: tuple[int, int], *, out_columns: int,
                 max_tokens: int, ids_dtype: torch.dtype, device: torch.device | str = "cpu",
                 packed: bool = False) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}")
        table = client.table
        if not packed and (table.value_type, table.scale_type) != ("fp8_e4m3", "ue8m0"):
            raise ValueError(f"rows of {table.value_type} values with {table.scale_type} scales are "
                             "not dequantized here: take them packed")
        self._client = client
        self._layer = layer
        self._columns = columns
        self._out_columns = out_columns
        self._max_tokens = max_tokens
        self._ids_dtype = ids_dtype
        self._device = torch.device(device)
        self._packed = packed
        self._lanes: dict[int, _Lane] = {}
        self._lanes_lock = threading.Lock()
        self._on_cuda = self._device.type == "cuda"
        # Waits for ids on their way to the host, so that the engine's thread goes on launching.
        self._submitter = ThreadPoolExecutor(1, "engram-submit") if self._on_cuda else None
        self._lane(0)

    def start(self, ids: torch.Tensor, lane: int = 0, dead: Optional[torch.Tensor] = None) -> None:
        """Asks for a step's rows: `ids` [tokens, all columns], global row ids, -1 for none. `dead`
        [tokens] bool: tokens that get zeros. Both are copied. Raises ValueError or TypeError for
        what cannot be a step; wrong ids are told by `finish`. A step that was not finished ends.
        """
        self._check(ids)
        state = self._lane(lane)
        self._end_unfinished(state)
        buffer = state.buffers[0]
        state.buffers = (state.buffers[1], buffer)
        if buffer.copied is not None:
            buffer.copied.synchronize()
        tokens = ids.shape[0]
        own = ids[:, self._columns[0]:self._columns[1]]
        if dead is not None:
            own = own.masked_fill(dead.unsqueeze(-1), -1)
        buffer.ids[:tokens].copy_(own, non_blocking=True)
        if ids.is_cuda:
            on_host = torch.cuda.Event()
            on_host.record()
            buffer.submitted = self._submitter.submit(self._submit, buffer, tokens, on_host)
        else:
            self._submit(buffer, tokens)
        state.started, state.started_tokens = buffer, tokens

    def finish(self, lane: int = 0) -> None:
        """Waits for the step's rows and puts them into the lane's output. Raises RuntimeError where
        no step was started, EngramError where its rows cannot be had: the output is then zeros.
        """
        state = self._lane(lane)
        buffer = state.started
        if buffer is None:
            raise RuntimeError(f"layer {self._layer}: no rows were asked for, or they were taken")
        state.started = None
        try:
            self._wait(buffer)
        except Exception:
            state.out[:state.tokens].zero_()
            state.tokens = 0
            raise
        tokens = state.started_tokens
        self._copy_out(buffer, tokens, state.out)
        if tokens < state.tokens:
            state.out[tokens:state.tokens].zero_()
        state.tokens = tokens

    def rows(self, tokens: int, lane: int = 0) -> torch.Tensor:
        """The output's first rows; those beyond the step's tokens are zeros."""
        if not 0 <= tokens <= self._max_tokens:
            raise ValueError(f"layer {self._layer}: {tokens} tokens, at most {self._max_tokens}")
        return self._lane(lane).out[:tokens]

    def _check(self, ids: torch.Tensor) -> None:
        where = f"layer {self._layer}: ids"
        if not isinstance(ids, torch.Tensor):
            raise TypeError(f"{where} are {type(ids).__name__}, not a tensor")
        if ids.dtype != self._ids_dtype:
            raise TypeError(f"{where} are {ids.dtype}, not {self._ids_dtype}")
        columns = self._client.table.columns
        if ids.dim() != 2 or ids.shape[1] != columns:
            raise ValueError(f"{where} have shape {list(ids.shape)}, not [tokens, {columns}]")
        if ids.shape[0] > self._max_tokens:
            raise ValueError(f"{where} are of {ids.shape[0]} tokens, at most {self._max_tokens}")
        if ids.device.type not in ("cpu", self._device.type):
            raise ValueError(f"{where} are on {ids.device}, not on {self._device} or the CPU")

    def _lane(self, index: int) -> _Lane:
        with self._lanes_lock:
            lane = self._lanes.get(index)
            if lane is None:
                lane = self._lanes[index] = self._make_lane()
            return lane

    def _make_lane(self) -> _Lane:
        table = self._client.table
        width, dtype = ((table.row_bytes, torch.uint8) if self._packed
                        else (table.values, torch.bfloat16))
        out = torch.zeros((self._max_tokens, self._out_columns, width), dtype=dtype,
                          device=self._device)
        first, second = (
            _Buffer(self._client, self._layer, self._columns, self._max_tokens, self._ids_dtype,
                    self._on_cuda) for _ in range(2))
        return _Lane((first, second), out)

    def _submit(self, buffer: _Buffer, tokens: int,
                on_host: Optional["torch.cuda.Event"] = None) -> None:
        if on_host is not None:
            on_host.synchronize()
        buffer.slot.submit_ids([buffer.ids[:tokens].numpy()], own_columns=True)

    def _wait(self, buffer: _Buffer) -> None:
        if buffer.submitted is not None:
            submitted, buffer.submitted = buffer.submitted, None
            submitted.result()
        buffer.slot.wait(self._layer)

    def _end_unfinished(self, state: _Lane) -> None:
        buffer, state.started = state.started, None
        if buffer is None:
            return
        buffer.slot.cancel()
        try:
            self._wait(buffer)
        except EngramError:
            pass  # nobody wants its rows

    def _copy_out(self, buffer: _Buffer, tokens: int, out: torch.Tensor) -> None:
        own = self._columns[1] - self._columns[0]
        rows = buffer.rows[:tokens]
        if self._packed:
            out[:tokens, :own].copy_(rows, non_blocking=True)
        else:
            packed = rows.to(self._device, non_blocking=True)
            for begin in range(0, tokens, _CHUNK_TOKENS):
                part = slice(begin, min(begin + _CHUNK_TOKENS, tokens))
                to_bf16(packed[part], out.shape[-1], out[part, :own])
        if buffer.copied is not None:
            buffer.copied.record()
