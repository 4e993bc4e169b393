#!/usr/bin/env python3
"""Makes paper/: a tiny model in the paper's layout, and what torch computes with it.

make_paper.py OUT    needs what deploy/model/train.py needs

A few steps move every weight from where it began: the convolution's are zeros there.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy" / "model"))
sys.dont_write_bytecode = True

import torch  # noqa: E402
import train  # noqa: E402


def main():
    torch.set_num_threads(1)
    torch.manual_seed(2)
    geometry = train.Geometry([0, 1], max_ngram=3, heads=2, floor=300)
    model = train.Decoder(train.VOCAB, 40, 2, 2, 56, geometry, train.ROW_VALUES, train.PaperFusion)
    text, held = train.split()
    train.train(model, geometry, text, held[:4096], 40)
    train.export(model, geometry, "paper", held[:4096], pathlib.Path(sys.argv[1]))
    (pathlib.Path(sys.argv[1]) / "held_out.txt").unlink()


if __name__ == "__main__":
    main()
