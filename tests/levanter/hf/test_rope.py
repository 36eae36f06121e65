"""Rotary embeddings in config.json: either schema is read, both are written, a contradiction is refused."""

from __future__ import annotations

import pytest

from levanter.errors import UserError
from levanter.hf.rope import Rope, rope_from_hf, rope_to_hf

LLAMA3 = {
    **{"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}
ROPE = Rope(500000.0, "llama3", LLAMA3)
NEW = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}}
OLD = {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
OLDEST = {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}}


@pytest.mark.parametrize("hf", [NEW, OLD, OLDEST, NEW | OLD], ids=["new", "old", "older still", "both"])
def test_either_schema_is_read(hf: dict[str, object]) -> None:
    assert rope_from_hf(hf) == ROPE


def test_theta_has_a_default() -> None:
    assert rope_from_hf({}) == Rope(10000.0)
    assert rope_from_hf({"rope_scaling": None}, default_theta=1e6) == Rope(1e6)
    assert rope_from_hf({"rope_theta": 5e5}) == Rope(5e5)
    # A theta outside the new section counts where the section has none.
    assert rope_from_hf({"rope_theta": 5e5, "rope_parameters": {"rope_type": "default"}}) == Rope(5e5)


def test_layers_may_differ() -> None:
    hf = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "rope_theta": 1e6,
    }
    assert rope_from_hf(hf, "full_attention") == Rope(1e6, "linear", {"factor": 8.0})
    assert rope_from_hf(hf, "sliding_attention") == Rope(1e4)


@pytest.mark.parametrize("rope", [ROPE, Rope(1e6)])
def test_both_schemas_are_written(rope: Rope) -> None:
    written = rope_to_hf(rope)
    old = {name: value for name, value in written.items() if name != "rope_parameters"}
    new = {"rope_parameters": written["rope_parameters"]}
    assert rope_from_hf(written) == rope_from_hf(old) == rope_from_hf(new) == rope


def test_contradictions_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        rope_from_hf({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_theta": 1e4})
    assert str(caught.value) == (
        'config.json says `rope_theta`: 10000.0 and `rope_parameters`: {"rope_type": "default", "rope_theta": '
        "1000000.0}, which contradict each other: remove the wrong one"
    )
    with pytest.raises(UserError) as caught:
        rope_from_hf({**NEW, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert str(caught.value).startswith(
        'config.json says `rope_scaling`: {"type": "linear", "factor": 2.0} and `rope_parameters`: '
    )
