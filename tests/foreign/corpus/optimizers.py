"""Optimizers of `optax.contrib` (and others that do more than elementwise updates) on a small residual model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from corpus.case import Case, Floats, Ids, Names, Sizes, State, Step, cross_entropy, drawn
from corpus.plain import normal, rms

NAMES = {
    "state.params.scale": "embed",
    "state.params.into": "features embed",
    "state.params.up": "embed mlp",
    "state.params.down": "mlp embed",
    "state.params.head": "embed classes",
    "batch.x": "batch features",
    "batch.labels": "batch",
}


def loss_of(params: Any, batch: Any) -> jax.Array:
    x = batch["x"] @ params["into"]
    x = x + jax.nn.gelu(rms(x, params["scale"]) @ params["up"]) @ params["down"]
    return cross_entropy(x @ params["head"], batch["labels"])


def with_optimizer(
    make: Callable[[], Any],
    extra: Callable[..., dict[str, Any]] = lambda *_: {},
    names: Names | None = None,
) -> Callable[[Sizes], Step]:
    """The step with an optimizer.

    Args:
        extra: what its update takes besides, from loss, gradients, parameters and batch.
        names: those of its own state that nothing else names.
    """

    def build(sizes: Sizes) -> Step:
        optimizer = optax.with_extra_args_support(make())
        shapes = {
            "into": (sizes.features, sizes.embed),
            "scale": (sizes.embed,),
            "up": (sizes.embed, sizes.mlp),
            "down": (sizes.mlp, sizes.embed),
            "head": (sizes.embed, sizes.classes),
        }
        batch = {"x": Floats((sizes.batch, sizes.features)), "labels": Ids(sizes.classes, (sizes.batch,))}

        def step(state: State, batch: dict[str, Any]) -> tuple[State, jax.Array]:
            loss, gradients = jax.value_and_grad(loss_of)(state.params, batch)
            more = extra(loss, gradients, state.params, batch)
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, **more)
            return State(optax.apply_updates(state.params, updates), opt_state), loss

        def initial() -> tuple[State, dict[str, Any]]:
            params = normal(jax.random.key(1), shapes)
            return State(params, optimizer.init(params)), drawn(batch)

        return Step(step, initial, NAMES | dict(names or {}))

    return build


def objective(_loss: Any, _gradients: Any, _params: Any, batch: Any) -> dict[str, Any]:
    return {"obj_fn": lambda params: loss_of(params, batch)}


def line_search(loss: Any, gradients: Any, _params: Any, batch: Any) -> dict[str, Any]:
    return {"value": loss, "grad": gradients, "value_fn": lambda params: loss_of(params, batch)}


CASES = {
    "optax L-BFGS": Case(
        with_optimizer(
            lambda: optax.lbfgs(memory_size=5), line_search, {"*_memory.*": "memory ...", "*_memory": "memory"}
        )
    ),
    "optax mechanize": Case(
        with_optimizer(
            lambda: optax.contrib.mechanize(optax.adam(1e-2)),
            names=dict.fromkeys([f"*.opt_state.{each}" for each in "rmvs"], "rates"),
        )
    ),
    "optax every fourth step": Case(with_optimizer(lambda: optax.MultiSteps(optax.adam(1e-2), 4))),
    "optax muon": Case(with_optimizer(lambda: optax.contrib.muon(1e-2), names={"*.ns_coeffs": "coefficients"})),
    "optax schedule-free": Case(with_optimizer(lambda: optax.contrib.schedule_free_adamw(1e-2))),
    "optax sophia": Case(with_optimizer(lambda: optax.contrib.sophia(1e-2), objective, {"*.key": "words"})),
    "optax adopt": Case(with_optimizer(lambda: optax.contrib.adopt(1e-2))),
    "optax prodigy": Case(with_optimizer(lambda: optax.contrib.prodigy(1.0))),
    "optax sam": Case(
        with_optimizer(
            lambda: optax.contrib.sam(optax.sgd(1e-2), optax.chain(optax.contrib.normalize(), optax.sgd(0.1)))
        )
    ),
    "optax adafactor": Case(with_optimizer(lambda: optax.adafactor(1e-2, min_dim_size_to_factor=8))),
    "optax ademamix": Case(with_optimizer(lambda: optax.contrib.ademamix(1e-2))),
}
