"""Variational inference with NumPyro: the ELBO of a regression by `SVI` with an automatic guide."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from corpus.case import Case, Floats, Ids, Names, Sizes, State, Step, drawn


def logits_of(weights: jax.Array, group: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(weights[group] * x, axis=-1)


def regression(sizes: Sizes) -> Step:
    """A hierarchical logistic regression: one weight vector for each of some groups, drawn around a common one."""

    def model(x: jax.Array, group: jax.Array, label: jax.Array) -> None:
        common = numpyro.sample("common", dist.Normal(0.0, 1.0).expand([sizes.features]).to_event(1))
        spread = numpyro.sample("spread", dist.HalfNormal(1.0).expand([sizes.features]).to_event(1))
        with numpyro.plate("groups", sizes.classes):
            weights = numpyro.sample("weights", dist.Normal(common, spread).to_event(1))
        logits = logits_of(weights, group, x)
        with numpyro.plate("examples", sizes.batch):
            numpyro.sample("label", dist.Bernoulli(logits=logits), obs=label)

    return svi_step(
        model,
        {
            "x": Floats((sizes.batch, sizes.features)),
            "group": Ids(sizes.classes, (sizes.batch,)),
            "label": Ids(2, (sizes.batch,)),
        },
        {
            "*.common_auto_*": "features",
            "*.spread_auto_*": "features",
            "*.weights_auto_*": "groups features",
            "batch.x": "batch features",
            "batch.group": "batch",
            "batch.label": "batch",
        },
    )


def svi_step(model: Any, batch: dict[str, Floats | Ids], names: Names) -> Step:
    """The step of `SVI` for a model of the fields of a batch, with a normal guide."""
    svi = SVI(model, AutoNormal(model), optax.adam(1e-2), Trace_ELBO())
    start = svi.init(jax.random.key(0), **drawn(batch))

    def step(state: State, batch: dict[str, Any]) -> tuple[State, jax.Array]:
        before = start._replace(optim_state=state.opt_state, rng_key=state.extra)
        after, loss = svi.update(before, **batch)
        return State((), after.optim_state, after.rng_key), loss

    def initial() -> tuple[State, dict[str, Any]]:
        inputs = drawn(batch)
        first = svi.init(jax.random.key(0), **inputs)
        return State((), first.optim_state, first.rng_key), inputs

    return Step(step, initial, names)


def states(sizes: Sizes) -> Step:
    """A random walk that is observed with noise: `scan` over time, a guide with a place for each state."""

    def model(path: jax.Array) -> None:
        drift = numpyro.sample("drift", dist.Normal(0.0, 1.0).expand([sizes.features]).to_event(1))
        spread = numpyro.sample("spread", dist.HalfNormal(1.0).expand([sizes.features]).to_event(1))

        def transition(before: jax.Array, seen: jax.Array) -> tuple[jax.Array, None]:
            scale = spread * jnp.ones((sizes.batch, 1))
            now = numpyro.sample("now", dist.Normal(0.9 * before + drift, scale).to_event(2))
            numpyro.sample("seen", dist.Normal(now, 0.1).to_event(2), obs=seen)
            return now, None

        scan(transition, jnp.zeros((sizes.batch, sizes.features)), path)

    return svi_step(
        model,
        {"path": Floats((sizes.position, sizes.batch, sizes.features))},
        {
            "*.drift_auto_*": "features",
            "*.spread_auto_*": "features",
            "*.now_auto_*": "position batch features",
            "batch.path": "position batch features",
        },
    )


CASES = {"numpyro SVI": Case(regression), "numpyro state space": Case(states)}
