"""The byte-level decoder that train.py trains: torch on a CPU.

Pre-norm blocks of causal attention (ALiBi: a penalty per head that grows with the distance, so no
positions are embedded) and of an MLP with squared ReLU. Before the attention of a layer that has a
table, its rows are fused into the hidden state as DeepSeek-V4.1 does it, or as the paper's demo.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-6
CONV_KERNEL = 4


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


def signed_sqrt_gate(score):
    return torch.sigmoid(score.abs().clamp_min(1e-6).sqrt() * score.sign())


class V41Fusion(nn.Module):
    """One branch: `wkv` makes a key and a value of a token's rows."""

    def __init__(self, hidden, width, max_ngram):
        super().__init__()
        self.wkv = nn.Linear(width, 2 * hidden, bias=False)
        self.q_norm, self.k_norm = RmsNorm(hidden), RmsNorm(hidden)

    def forward(self, hidden, rows):
        key, value = self.wkv(rows).chunk(2, dim=-1)
        score = (self.q_norm(hidden) * self.k_norm(key)).sum(-1, keepdim=True)
        return hidden + signed_sqrt_gate(score / math.sqrt(hidden.shape[-1])) * value


class PaperFusion(nn.Module):
    """One branch: projections with a bias, then a causal convolution over the gated value."""

    def __init__(self, hidden, width, max_ngram):
        super().__init__()
        self.key_proj, self.value_proj = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.q_norm, self.k_norm, self.conv_norm = (RmsNorm(hidden) for _ in range(3))
        self.conv = nn.Parameter(torch.zeros(hidden, 1, CONV_KERNEL))
        self.dilation = max_ngram

    def forward(self, hidden, rows):
        score = (self.q_norm(hidden) * self.k_norm(self.key_proj(rows))).sum(-1, keepdim=True)
        gated = signed_sqrt_gate(score / math.sqrt(hidden.shape[-1])) * self.value_proj(rows)
        past = F.pad(self.conv_norm(gated).transpose(1, 2),
                     ((CONV_KERNEL - 1) * self.dilation, 0))
        mixed = F.conv1d(past, self.conv, groups=hidden.shape[-1], dilation=self.dilation)
        return hidden + gated + F.silu(mixed).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, hidden, heads, mlp):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = RmsNorm(hidden), RmsNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, mlp, bias=False)
        self.down = nn.Linear(mlp, hidden, bias=False)

    def forward(self, hidden, bias):
        batch, length, width = hidden.shape
        qkv = self.qkv(self.attention_norm(hidden)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        hidden = hidden + self.out(mixed)
        return hidden + self.down(F.relu(self.up(self.mlp_norm(hidden))).square())


def alibi(heads, length):
    """[heads, length, length]: what is added to scores; the future is -inf."""
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    bias = -slopes[:, None, None] * distance
    return bias.masked_fill(distance < 0, -math.inf)


class Decoder(nn.Module):
    """geometry: of the tables; None: a model without memory."""

    def __init__(self, vocab, hidden, layers, heads, mlp, geometry=None, row_values=0,
                 fusion=V41Fusion):
        super().__init__()
        self.sizes = {"vocab": vocab, "hidden": hidden, "layers": layers, "heads": heads,
                      "mlp": mlp, "norm_eps": EPS}
        self.embed = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads, mlp) for _ in range(layers))
        self.norm, self.head = RmsNorm(hidden), nn.Linear(hidden, vocab, bias=False)
        self.tables, self.fusions = nn.ModuleDict(), nn.ModuleDict()
        for layer in geometry.layers if geometry else []:
            # Sparse: a step moves the rows that it has looked up, and no others.
            table = nn.Embedding(geometry.rows(layer), row_values, sparse=True)
            nn.init.normal_(table.weight, std=0.05)
            self.tables[str(layer)] = table
            self.fusions[str(layer)] = fusion(hidden, geometry.columns * row_values,
                                              geometry.max_ngram)

    def forward(self, tokens, row_ids):
        """tokens [batch, length]; row_ids {layer: [batch, length, columns]} -> logits."""
        hidden = self.embed(tokens)
        bias = alibi(self.blocks[0].heads, tokens.shape[1])
        for index, block in enumerate(self.blocks):
            name = str(index)
            if name in self.fusions:
                rows = self.tables[name](row_ids[index]).flatten(-2)
                hidden = self.fusions[name](hidden, rows)
            hidden = block(hidden, bias)
        return self.head(self.norm(hidden))

    def dense_parameters(self):
        return sum(p.numel() for name, p in self.named_parameters()
                   if not name.startswith("tables."))

    def flops_per_token(self, context):
        """Two per weight of every matrix that a token is multiplied with, and attention's; norms,
        gates and lookups are left out."""
        weights = sum(p.numel() for name, p in self.named_parameters()
                      if p.dim() >= 2 and not name.startswith(("tables.", "embed.")))
        return 2 * weights + len(self.blocks) * 4 * context * self.sizes["hidden"]
