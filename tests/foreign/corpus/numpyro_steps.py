"""Variational inference with NumPyro: the ELBO of a regression by `SVI` with an automatic guide."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from corpus.case import Case, Floats, Ids, Sizes, State, Step, drawn


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

    svi = SVI(model, AutoNormal(model), optax.adam(1e-2), Trace_ELBO())
    batch = {
        "x": Floats((sizes.batch, sizes.features)),
        "group": Ids(sizes.classes, (sizes.batch,)),
        "label": Ids(2, (sizes.batch,)),
    }
    start = svi.init(jax.random.key(0), **drawn(batch))

    def step(state: State, batch: dict[str, Any]) -> tuple[State, jax.Array]:
        before = start._replace(optim_state=state.opt_state, rng_key=state.extra)
        after, loss = svi.update(before, **batch)
        return State((), after.optim_state, after.rng_key), loss

    def initial() -> tuple[State, dict[str, Any]]:
        inputs = drawn(batch)
        first = svi.init(jax.random.key(0), **inputs)
        return State((), first.optim_state, first.rng_key), inputs

    return Step(
        step,
        initial,
        {
            "*.common_auto_*": "features",
            "*.spread_auto_*": "features",
            "*.weights_auto_*": "groups features",
            "batch.x": "batch features",
            "batch.group": "batch",
            "batch.label": "batch",
        },
    )


CASES = {"numpyro SVI": Case(regression)}
