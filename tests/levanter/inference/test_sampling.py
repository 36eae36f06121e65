"""Which token is drawn: what top-k and top-p leave, how often, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from levanter.errors import UserError
from levanter.inference.sampling import GREEDY, Sampling, draw

SCORES = jnp.log(jnp.asarray([0.05, 0.4, 0.1, 0.3, 0.15]))


def frequencies(how: Sampling, count: int = 4000) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    drawn = jax.vmap(lambda key: draw(SCORES, key, how))(keys)
    return np.bincount(np.asarray(drawn), minlength=5) / count


@pytest.mark.parametrize(
    ("how", "left"),
    [
        (Sampling(1.0, None), [0.05, 0.4, 0.1, 0.3, 0.15]),
        (Sampling(1.0, 2), [0, 0.4, 0, 0.3, 0]),
        (Sampling(1.0, 100), [0.05, 0.4, 0.1, 0.3, 0.15]),
        (Sampling(1.0, None, 0.3), [0, 1, 0, 0, 0]),
        (Sampling(1.0, None, 0.69), [0, 0.4, 0, 0.3, 0]),
        (Sampling(1.0, None, 0.71), [0, 0.4, 0, 0.3, 0.15]),
        (Sampling(1.0, None, 1.0), [0.05, 0.4, 0.1, 0.3, 0.15]),
        # After top-k the two that are left have 4/7 and 3/7, so that half of it is the first alone.
        (Sampling(1.0, 2, 0.5), [0, 1, 0, 0, 0]),
        (Sampling(0.5, None), [0.05**2, 0.4**2, 0.1**2, 0.3**2, 0.15**2]),
        (Sampling(1.0, 1), [0, 1, 0, 0, 0]),
        (GREEDY, [0, 1, 0, 0, 0]),
    ],
)
def test_what_is_left_is_drawn_as_often_as_it_is_likely(how: Sampling, left: list[float]) -> None:
    expected = np.asarray(left) / np.sum(left)
    found = frequencies(how)
    assert set(np.flatnonzero(found)) == set(np.flatnonzero(expected))
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -1.0}, "--temperature is -1.0: it must be at least 0"),
        ({"temperature": float("nan")}, "--temperature is nan: it must be at least 0"),
        ({"top_k": 0}, "--top-k is 0: it must be at least 1"),
        ({"top_p": 0.0}, "--top-p is 0.0: it must be above 0 and at most 1"),
        ({"top_p": 1.5}, "--top-p is 1.5: it must be above 0 and at most 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Sampling(**fields)
    assert str(caught.value) == message
