"""safetensors files, and the number formats of served rows, in numpy."""
import json
import struct

import numpy as np


def bf16(values):
    """f32 -> the nearest bf16, ties to even, as uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def of_bf16(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def e4m3_values():
    """The values of the bytes 0 .. 126: those that are neither negative nor NaN."""
    byte = np.arange(127)
    field, fraction = byte >> 3, byte & 7
    return np.where(field == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0**(field - 7))


def fp8(values):
    """[rows, width] -> e4m3 bytes [rows, width] and a ue8m0 scale for each 32 values."""
    rows, width = values.shape
    groups = values.reshape(rows, width // 32, 32).astype(np.float64)
    most = np.abs(groups).max(-1)
    exponent = np.ceil(np.log2(np.maximum(most, 2.0**-100) / 448)).astype(np.int64)
    scaled = groups / 2.0**exponent[..., None]
    table = e4m3_values()
    code = np.searchsorted((table[1:] + table[:-1]) / 2, np.abs(scaled))
    code = code.astype(np.uint8) | (np.signbit(scaled).astype(np.uint8) << 7)
    return code.reshape(rows, width), (exponent + 127).astype(np.uint8)


def of_fp8(codes, scales):
    table = e4m3_values()
    values = np.where(codes & 0x80, -1, 1) * table[codes & 0x7f]
    scale = 2.0**(scales.astype(np.int64) - 127)
    return (values * np.repeat(scale, 32, axis=1)).astype(np.float32)


def read(path):
    """{name: (dtype, array)} of a file that `write` has written: bytes as uint8, bf16 as uint16."""
    data = path.read_bytes()
    size, = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, tensor in json.loads(data[8:8 + size]).items():
        begin, end = (8 + size + at for at in tensor["data_offsets"])
        kind = np.uint16 if tensor["dtype"] == "BF16" else np.uint8
        tensors[name] = (tensor["dtype"],
                         np.frombuffer(data[begin:end], kind).reshape(tensor["shape"]))
    return tensors


def write(path, tensors):
    """tensors: {name: (dtype, array)}; dtype as the format spells it."""
    header, at = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())
