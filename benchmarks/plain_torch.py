"""GPT-2 and LLaMA as one writes them in PyTorch, with the step that trains them: what `gpu.py` measures against.

Nothing here but `torch`: `scaled_dot_product_attention` (flash attention on a GPU), `torch.compile` of model and loss,
bf16 by autocast over float32 parameters, fused AdamW, clipping of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sizes = Mapping[str, Any]
"""The fields of our configuration of the model, by name."""


class Attention(nn.Module):
    """Causal attention with grouped queries; `turned` is what positions do to queries and keys."""

    def __init__(self, sizes: Sizes, bias: bool) -> None:
        super().__init__()
        embed, self.heads = sizes["hidden_dim"], sizes["num_heads"]
        self.kv_heads = sizes.get("num_kv_heads", self.heads)
        self.size = sizes.get("head_dim") or embed // self.heads
        self.q = nn.Linear(embed, self.heads * self.size, bias=bias)
        self.kv = nn.Linear(embed, 2 * self.kv_heads * self.size, bias=bias)
        self.out = nn.Linear(self.heads * self.size, embed, bias=bias)

    def forward(self, x: Tensor, turned: Callable[[Tensor], Tensor]) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        kv = self.kv(x).view(batch, length, 2, self.kv_heads, self.size).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            turned(q), turned(kv[0]), kv[1], is_causal=True, enable_gqa=self.kv_heads != self.heads
        )
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class Gpt2Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        embed = sizes["hidden_dim"]
        self.attention_norm, self.mlp_norm = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.attention = Attention(sizes, bias=True)
        self.up, self.down = nn.Linear(embed, 4 * embed), nn.Linear(4 * embed, embed)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), lambda each: each)
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class LlamaBlock(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        embed, mlp = sizes["hidden_dim"], sizes["intermediate_dim"]
        self.attention_norm, self.mlp_norm = nn.RMSNorm(embed), nn.RMSNorm(embed)
        self.attention = Attention(sizes, bias=False)
        self.gate, self.up = nn.Linear(embed, mlp, bias=False), nn.Linear(embed, mlp, bias=False)
        self.down = nn.Linear(mlp, embed, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        def turned(each: Tensor) -> Tensor:
            first, second = each.chunk(2, dim=-1)
            return each * cos + torch.cat((-second, first), dim=-1) * sin

        x = x + self.attention(self.attention_norm(x), turned)
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Gpt2(nn.Module):
    """tokens, targets int64 [batch, position] → the mean loss."""

    def __init__(self, sizes: Sizes, vocab: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, sizes["hidden_dim"])
        self.positions = nn.Embedding(sizes["seq_len"], sizes["hidden_dim"])
        self.blocks = nn.ModuleList(Gpt2Block(sizes) for _ in range(sizes["num_layers"]))
        self.norm = nn.LayerNorm(sizes["hidden_dim"])

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return _loss(F.linear(self.norm(x), self.tokens.weight), targets)


class Llama(nn.Module):
    """tokens, targets int64 [batch, position] → the mean loss."""

    def __init__(self, sizes: Sizes, vocab: int) -> None:
        super().__init__()
        size = sizes.get("head_dim") or sizes["hidden_dim"] // sizes["num_heads"]
        self.tokens = nn.Embedding(vocab, sizes["hidden_dim"])
        self.blocks = nn.ModuleList(LlamaBlock(sizes) for _ in range(sizes["num_layers"]))
        self.norm = nn.RMSNorm(sizes["hidden_dim"])
        tied = sizes["tie_word_embeddings"]
        self.head = None if tied else nn.Linear(sizes["hidden_dim"], vocab, bias=False)
        slowness = sizes["rope"]["theta"] ** (torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(sizes["seq_len"]), 1 / slowness).repeat(1, 2)
        self.register_buffer("cos", angles.cos().bfloat16(), persistent=False)
        self.register_buffer("sin", angles.sin().bfloat16(), persistent=False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        x = self.norm(x)
        return _loss(F.linear(x, self.tokens.weight) if self.head is None else self.head(x), targets)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))


def make_step(
    family: str, sizes: Sizes, vocab: int, device: str, backend: str
) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """A model with random weights, and its training step: tokens and targets → the loss, still on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = {"gpt2": Gpt2, "llama": Llama}[family](sizes, vocab)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=device == "cuda")
    compiled = torch.compile(model, backend=backend)

    def step(tokens: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss = compiled(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return model, step
