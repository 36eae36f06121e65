"""Right programs that look like mistakes: attention in windows, blocks and along one axis of an image, relative
positions by a skew, scores that are made of features, state spaces, routers, pairwise distances.

Sizes are as equal as they can be: nothing but names, orders and uses tells. An axis that occurs twice has its name
twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mistakes.pair import Argument, Pair, ids

X = "batch=4 position=4 embed=16"
CLEAN: dict[str, Pair] = {}
"""As pairs whose two forms are the same."""


def clean(**arguments: str | Argument) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds a program to `CLEAN`."""
    known = {name: each if isinstance(each, Argument) else Argument(each) for name, each in arguments.items()}

    def added(program: Callable[..., Any]) -> Callable[..., Any]:
        def either(_: bool, *rest: Any) -> Any:
            return program(*rest)

        flag = inspect.Parameter("wrong", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        either.__signature__ = inspect.Signature([flag, *inspect.signature(program).parameters.values()])
        CLEAN[program.__name__.replace("_", " ")] = Pair(either, (), known)
        return program

    return added


@clean(x=X, w="embed=16 packed=48", o="inner=16 embed=16")
def nano_fused_equal(x, w, o):
    q, k, v = [t.reshape(4, 4, 4, 4).transpose(0, 2, 1, 3) for t in jnp.split(x @ w, 3, -1)]
    a = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((4, 4), bool)), q @ k.swapaxes(-1, -2) / 2, -1e9))
    return x + (a @ v).transpose(0, 2, 1, 3).reshape(4, 4, 16) @ o


@clean(x=X, w="embed=16 packed=48", o="inner=16 embed=16")
def fused_qkv_reshape5(x, w, o):
    q, k, v = (x @ w).reshape(4, 4, 3, 4, 4).transpose(2, 0, 3, 1, 4)
    a = jax.nn.softmax(jnp.einsum("bhid,bhjd->bhij", q, k))
    return x + jnp.einsum("bhij,bhjd->bihd", a, v).reshape(4, 4, 16) @ o


@clean(x="batch=2 height=8 width=8 embed=4", wq="embed=4 inner=4", wk="embed=4 inner=4", table="offsets=49 heads=1")
def swin(x, wq, wk, table):
    x = jnp.roll(x, (-2, -2), (1, 2))
    w = x.reshape(2, 2, 4, 2, 4, 4).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16, 4)
    q, k = (w @ wq, w @ wk)
    i = jnp.arange(4)
    g = jnp.stack(jnp.meshgrid(i, i, indexing="ij")).reshape(2, -1)
    rel = g[:, :, None] - g[:, None, :] + 3
    idx = rel[0] * 7 + rel[1]
    s = q @ k.mT + table[idx][..., 0]
    y = jax.nn.softmax(s) @ w
    y = y.reshape(2, 2, 2, 4, 4, 4).transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, 8, 4)
    return jnp.roll(y, (2, 2), (1, 2)) + x


@clean(x="batch=4 position=16 embed=4", w="embed=4 embed=4")
def local_blocks(x, w):
    b = x.reshape(4, 4, 4, 4)
    q = b @ w
    prev = jnp.concatenate([jnp.zeros_like(b[:, :1]), b[:, :-1]], 1)
    kv = jnp.concatenate([prev, b], 2)
    a = jax.nn.softmax(jnp.einsum("bnid,bnjd->bnij", q, kv))
    return jnp.einsum("bnij,bnjd->bnid", a, kv).reshape(4, 16, 4) + x


@clean(x="batch=4 height=4 width=4 embed=4", w="embed=4 packed=12")
def axial(x, w):

    def att(t):
        q, k, v = jnp.split(t @ w, 3, -1)
        return jax.nn.softmax(q @ k.mT) @ v

    y = x + att(x)
    y = y + att(y.swapaxes(1, 2)).swapaxes(1, 2)
    return y


@clean(x="batch=4 position=4 embed=16", w="embed=16 packed=48")
def xca(x, w):
    q, k, v = (x @ w).reshape(4, 4, 3, 4, 4).transpose(2, 0, 3, 4, 1)
    a = jax.nn.softmax(q @ k.mT / 2)
    return x + (a @ v).transpose(0, 3, 1, 2).reshape(4, 4, 16)


@clean(x=X, u="embed=16 slots=16", mix="embed=16 position=4")
def synthesizer(x, u, mix):
    a = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((4, 4), bool)), x @ mix, -1e9))
    return x + a @ (x @ u) @ u.T


@clean(x=X, r="embed=16 rel=8", w="embed=16 embed=16")
def skew(x, r, w):
    q = x @ w
    rel = x @ r
    rel = jnp.pad(rel[..., :4], ((0, 0), (0, 0), (1, 0))).reshape(4, 5, 4)[:, 1:]
    s = q @ x.mT + rel
    return jax.nn.softmax(s) @ x


@clean(x="batch=4 height=4 width=4 channels=4", g="channels=4", b="channels=4")
def groupnorm(x, g, b):
    y = x.reshape(4, 4, 4, 2, 2)
    m = y.mean((1, 2, 4), keepdims=True)
    v = y.var((1, 2, 4), keepdims=True)
    return ((y - m) / jnp.sqrt(v + 1e-5)).reshape(x.shape) * g + b


@clean(
    x="batch=4 position=4 embed=16",
    router="embed=16 experts=4",
    up="experts=4 embed=16 mlp=4",
    down="experts=4 mlp=4 embed=16",
)
def switch(x, router, up, down):
    t = x.reshape(16, 16)
    p = jax.nn.softmax(t @ router)
    e = jnp.argmax(p, -1)
    oh = jax.nn.one_hot(e, 4)
    pos = jnp.cumsum(oh, 0) * oh - 1
    keep = (pos < 4) * oh
    disp = keep[..., None] * jax.nn.one_hot(pos.astype(int), 4)
    xe = jnp.einsum("tec,td->ecd", disp, t)
    h = jax.nn.relu(jnp.einsum("ecd,edf->ecf", xe, up))
    ye = jnp.einsum("ecf,efd->ecd", h, down)
    y = jnp.einsum("tec,ecd->td", disp * p.max(-1)[:, None, None], ye)
    aux = (oh.mean(0) * p.mean(0)).sum() * 4
    return (x + y.reshape(x.shape), aux)


@clean(x="batch=4 features=4")
def pairwise(x):
    d = jnp.sqrt(((x[:, None] - x[None]) ** 2).sum(-1) + 1e-6)
    return (d * (1 - jnp.eye(4))).sum() / 12


@clean(e="batch=4 time=4 tags=4", tr="tags=4 tags=4", y=ids("batch=4 time=4"))
def crf(e, tr, y):

    def f(a, em):
        return (jax.nn.logsumexp(a[:, :, None] + tr[None] + em[:, None, :], 1), None)

    a, _ = lax.scan(f, e[:, 0], e[:, 1:].swapaxes(0, 1))
    g = jnp.take_along_axis(e, y[..., None], 2)[..., 0].sum(1) + tr[y[:, :-1], y[:, 1:]].sum(1)
    return (jax.nn.logsumexp(a, 1) - g).mean()


@clean(x=X)
def fnet(x):
    return jnp.fft.fft(jnp.fft.fft(x, axis=-1), axis=-2).real + x


@clean(x=X, u="embed=16 packed=32", sw="position=4 position=4", sb="position=4", d="half=16 embed=16")
def gmlp(x, u, sw, sb, d):
    a, b = jnp.split(jax.nn.gelu(x @ u), 2, -1)
    b = jnp.einsum("bpd,pq->bqd", b, sw) + sb[:, None]
    return x + a * b @ d


@clean(
    q="batch=4 position=4 heads=4 size=4", k="batch=4 position=4 heads=4 size=4", v="batch=4 position=4 heads=4 size=4"
)
def causal_linear(q, k, v):
    kv = jnp.cumsum(jnp.einsum("bthd,bthe->bthde", k, v), 1)
    z = jnp.cumsum(k, 1)
    return jnp.einsum("bthd,bthde->bthe", q, kv) / (jnp.einsum("bthd,bthd->bth", q, z)[..., None] + 1e-6)


@clean(x="batch=4 inputs=4", y=ids("batch=4"), w="inputs=4 classes=4")
def mixup(x, y, w):
    xm = 0.3 * x + 0.7 * x[::-1]
    logp = jax.nn.log_softmax(xm @ w)
    oh = jax.nn.one_hot(y, 4) * 0.9 + 0.025
    return -(0.3 * (logp * oh).sum(-1) + 0.7 * (logp * oh[::-1]).sum(-1)).mean()


@clean(x="batch=4 channels=4 height=4 width=4", w1="channels=4 squeezed=2", w2="squeezed=2 channels=4")
def se(x, w1, w2):
    s = jax.nn.sigmoid(jax.nn.relu(x.mean((2, 3)) @ w1) @ w2)
    return x * s[:, :, None, None]


@clean(
    x="batch=4 inputs=4",
    h="batch=4 hidden=4",
    c="batch=4 hidden=4",
    wi="inputs=4 gates=16",
    wh="hidden=4 gates=16",
    b="gates=16",
    p="three=3 hidden=4",
)
def peephole(x, h, c, wi, wh, b, p):
    i, f, g, o = jnp.split(x @ wi + h @ wh + b, 4, -1)
    i = jax.nn.sigmoid(i + p[0] * c)
    f = jax.nn.sigmoid(f + 1 + p[1] * c)
    c = f * c + i * jnp.tanh(g)
    return (jax.nn.sigmoid(o + p[2] * c) * jnp.tanh(c), c)


@clean(x="batch=4 length=4 channels=4", a="channels=4 state=4", bm="channels=4 state=4", cm="channels=4 state=4")
def s4d(x, a, bm, cm):

    def f(h, u):
        h = h * jnp.exp(-jnp.exp(a)) + u[:, :, None] * bm
        return (h, (h * cm).sum(-1))

    _, y = lax.scan(f, jnp.zeros((4, 4, 4)), x.swapaxes(0, 1))
    return y.swapaxes(0, 1) + x


@clean(
    x="batch=4 length=4 embed=4",
    wz="embed=4 packed=16",
    cw="width=4 inner=8",
    xp="inner=8 parts=12",
    dtw="rank=4 inner=8",
    alog="inner=8 state=4",
    o="inner=8 embed=4",
)
def mamba(x, wz, cw, xp, dtw, alog, o):
    u, z = jnp.split(x @ wz, 2, -1)
    up = jnp.pad(u, ((0, 0), (3, 0), (0, 0)))
    u = jax.nn.silu(sum(up[:, i : i + 4] * cw[i] for i in range(4)))
    dt, b, c = jnp.split(u @ xp, [4, 8], -1)
    dt = jax.nn.softplus(dt @ dtw)
    A = -jnp.exp(alog)

    def f(h, t):
        dti, bi, ci, ui = t
        h = jnp.exp(dti[..., None] * A) * h + dti[..., None] * bi[:, None, :] * ui[..., None]
        return (h, (h * ci[:, None]).sum(-1))

    _, y = lax.scan(f, jnp.zeros((4, 8, 4)), tuple(t.swapaxes(0, 1) for t in (dt, b, c, u)))
    y = y.swapaxes(0, 1)
    return x + y * jax.nn.silu(z) @ o


@clean(
    x=X,
    wq="embed=16 latent=8",
    wkv="embed=16 latent_kv=8",
    uk="latent_kv=8 inner=16",
    uv="latent_kv=8 inner=16",
    uq="latent=8 inner=16",
    o="inner=16 embed=16",
)
def mla(x, wq, wkv, uk, uv, uq, o):
    q = (x @ wq @ uq).reshape(4, 4, 4, 4)
    c = x @ wkv
    k = (c @ uk).reshape(4, 4, 4, 4)
    v = (c @ uv).reshape(4, 4, 4, 4)
    qn, qr = (q[..., :2], q[..., 2:])
    kn, kr = (k[..., :2], k[..., 2:])
    s = jnp.einsum("bqhd,bkhd->bhqk", qn, kn) + jnp.einsum("bqhd,bkhd->bhqk", qr, kr)
    return x + jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s), v).reshape(4, 4, 16) @ o


@clean(img="batch=4 height=8 width=8 color=4", w="pixels=16 embed=16", cls="one=1 embed=16", pos="tokens=17 embed=16")
def vit(img, w, cls, pos):
    p = img.reshape(4, 4, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(4, 16, 16) @ w
    t = jnp.concatenate([jnp.broadcast_to(cls, (4, 1, 16)), p], 1) + pos
    s = jax.nn.softmax(t @ t.mT)
    return (s @ t)[:, 0]


@clean(x="batch=4 height=4 width=4 channels=16")
def pixelshuffle(x):
    return x.reshape(4, 4, 4, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(4, 8, 8, 4).mean()


@clean(logits="batch=4 classes=4", t="batch=4 classes=4")
def distill(logits, t):
    p = jax.nn.softmax(t / 2)
    logp = jax.nn.log_softmax(logits / 2)
    return -(p * logp).sum(-1).mean() * 4


@clean(
    q="batch=4 position=4 kv=2 group=2 size=4", k="batch=4 cache=8 kv=2 size=4", new="batch=4 position=4 kv=2 size=4"
)
def gqa_cache(q, k, new):
    k = lax.dynamic_update_slice(k, new, (0, 2, 0, 0))
    qf = q.reshape(4, 4, 4, 4)
    kk = jnp.repeat(k, 2, 2)
    s = jnp.einsum("bthd,bshd->bhts", qf, kk)
    m = jnp.arange(8)[None] <= jnp.arange(4)[:, None] + 2
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(jnp.where(m, s, -1e9)), kk)


@clean(z="batch=4 embed=4", codes="codes=4 embed=4")
def vq(z, codes):
    d = (z**2).sum(1, keepdims=True) - 2 * z @ codes.T + (codes**2).sum(1)
    i = d.argmin(1)
    zq = codes[i]
    return ((zq - lax.stop_gradient(z)) ** 2).mean() + (z + lax.stop_gradient(zq - z)).sum()


@clean(x="batch=4 time=4 features=4", h0="batch=4 hidden=4", w="both=8 gates=12")
def gru_concat(x, h0, w):

    def f(h, u):
        g = jnp.concatenate([u, h], -1) @ w
        r, zz, n = jnp.split(g, 3, -1)
        h = (1 - jax.nn.sigmoid(zz)) * jnp.tanh(n) * jax.nn.sigmoid(r) + jax.nn.sigmoid(zz) * h
        return (h, h)

    return lax.scan(f, h0, x.swapaxes(0, 1))[1].swapaxes(0, 1)


@clean(a="graphs=4 nodes=4 nodes=4", x="graphs=4 nodes=4 features=4", w="features=4 hidden=4")
def gcn(a, x, w):
    a = a + jnp.eye(4)
    d = jax.lax.rsqrt(a.sum(-1))
    n = a * d[:, :, None] * d[:, None, :]
    return jax.nn.relu(n @ x @ w)
