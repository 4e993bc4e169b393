#!/usr/bin/env python3
"""Dequantizing in torch: every e4m3 byte under every scale byte, against the formula in float64.

bf16_test.py PYTHON_DIR. Needs python3-numpy and python3-torch.
"""
import os
import sys
import unittest

sys.path[:0] = [sys.argv.pop(1), os.path.join(os.path.dirname(__file__), os.pardir)]
import numpy as np  # noqa: E402
import torch  # noqa: E402
from python_support import bits_of_bf16  # noqa: E402
from engram_client._layer_rows import to_bf16  # noqa: E402


class Bf16Test(unittest.TestCase):
    def test_every_value_under_every_scale(self):
        # Row r of a group holds the values turned by r, so that each meets each of the 8 scales.
        values = (np.arange(256)[None, :] + np.arange(256)[:, None]).astype(np.uint8)
        for first in range(0, 256, 8):
            scales = np.broadcast_to(np.arange(first, first + 8, dtype=np.uint8), (256, 8))
            packed = np.concatenate([values, scales], axis=1)
            out = torch.empty((256, 256), dtype=torch.bfloat16)
            to_bf16(torch.from_numpy(packed), 256, out)
            got = out.view(torch.int16).numpy().view(np.uint16)
            want = bits_of_bf16(packed)
            nan = want == 0x7FC0
            np.testing.assert_array_equal(got[~nan], want[~nan], err_msg=f"scales from {first}")
            self.assertTrue(np.all(np.isnan(out.float().numpy()) == nan))

    def test_known_values(self):
        for byte, scale, value in ((0x38, 127, 1.0), (0xB8, 128, -2.0), (0x01, 127, 2.0**-9),
                                   (0x7E, 127, 448.0), (0x38, 0, 2.0**-127), (0x80, 127, -0.0),
                                   (0x7E, 254, float("inf")), (0x01, 0, 0.0)):
            packed = torch.tensor([byte] * 32 + [scale], dtype=torch.uint8)
            out = torch.empty(32, dtype=torch.bfloat16)
            to_bf16(packed, 32, out)
            np.testing.assert_array_equal(out.float().numpy(), np.full(32, value, np.float32))
            self.assertEqual(bool(torch.signbit(out[0].float())), np.signbit(value))


if __name__ == "__main__":
    unittest.main()
