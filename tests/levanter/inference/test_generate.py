"""Text that goes on: with a cache and without, in a batch and alone, on one device and on a mesh."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import tiny

import haliax as hax
import passes
from levanter.compiler.inference import plan_inference
from levanter.config import TrainConfig
from levanter.inference.generate import Generated, Generator, generate
from levanter.inference.sampling import GREEDY, Sampling
from levanter.models import LmModel
from levanter.runtime.state import state_shape

pytestmark = pytest.mark.hurried

VOCAB = 90
KEY = jax.random.key(3)
PROMPTS = [[5, 6, 7], [1], list(range(20, 57)), [5, 6, 7], [88, 0, 88, 0, 88]]
DRAWN = Sampling(temperature=1.2, top_k=60, top_p=0.9)
MODELS = {"a cache": tiny.llama, "no cache": tiny.letters}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> LmModel:
    return tiny.model(MODELS[request.param]())


def recomputed(model: LmModel, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens as the definition has them: the whole text is read for each, and no program is shared."""
    text = list(prompt)
    for _ in range(count):
        tokens = hax.named(np.asarray([text], np.int32), (hax.Axis("batch", 1), model.Pos.resize(len(text))))
        scores = model(tokens)[model.Pos.name, len(text) - 1].array[0, :VOCAB]
        text.append(int(np.argmax(scores)))
    return text[len(prompt) :]


def test_greedy_tokens_are_those_of_the_definition(model: LmModel) -> None:
    found = Generator(model, VOCAB, GREEDY)(PROMPTS[:3], 4, KEY)
    assert [each.tokens for each in found] == [recomputed(model, prompt, 4) for prompt in PROMPTS[:3]]


@pytest.mark.parametrize("how", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_cache_changes_no_token(how: Sampling) -> None:
    model = tiny.model(tiny.llama())
    with_cache, without = (Generator(model, VOCAB, how, use_cache=use)(PROMPTS, 12, KEY) for use in (True, False))
    assert with_cache == without


@pytest.mark.parametrize("how", [GREEDY, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=["greedy", "drawn"])
def test_a_prompt_does_not_know_the_batch_it_is_in(model: LmModel, how: Sampling) -> None:
    generator = Generator(model, VOCAB, how)
    together = generator(PROMPTS, 9, KEY)
    alone = [generator([prompt], 9, KEY)[0] for prompt in PROMPTS]
    twice = 3  # the same prompt as the first one
    assert [each for i, each in enumerate(together) if i != twice] == [
        each for i, each in enumerate(alone) if i != twice
    ]
    assert (together[twice] == together[0]) == (how is GREEDY)
    assert generator(PROMPTS[::-1], 9, KEY)[0] == together[-1]


def test_a_stop_id_ends_one_text_and_not_the_others(model: LmModel) -> None:
    plain = [each.tokens for each in Generator(model, VOCAB, DRAWN)(PROMPTS, 9, KEY)]
    stop = plain[0][4]
    stopped = Generator(model, VOCAB, DRAWN, stop=[stop])(PROMPTS, 9, KEY)
    ended = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in plain]
    assert [each.tokens for each in stopped] == ended
    assert [each.stopped for each in stopped] == [stop in tokens for tokens in plain]
    assert len(ended[0]) <= 4 and any(len(tokens) == 9 for tokens in ended)


def test_ids_that_are_padding_are_never_drawn() -> None:
    letters = tiny.model(tiny.letters())
    assert letters.Vocab.size == VOCAB + 6
    tall = letters.table.at["letter", VOCAB : VOCAB + 6].set(50.0)
    model = dataclasses.replace(letters, table=tall)
    for how in (GREEDY, Sampling(temperature=5.0, top_k=None)):
        tokens = np.concatenate([each.tokens for each in Generator(model, VOCAB, how)(PROMPTS, 20, KEY)])
        assert tokens.max() < VOCAB


def test_a_long_prompt_loses_its_first_tokens(model: LmModel) -> None:
    long = [int(i) for i in np.random.default_rng(0).integers(0, VOCAB, 100)]
    found = Generator(model, VOCAB, GREEDY)([long, [3]], 10, KEY)
    assert (found[0].dropped, found[1].dropped) == (100 - 54, 0)
    assert found[0].tokens == Generator(model, VOCAB, GREEDY)([long[-54:]], 10, KEY)[0].tokens


def test_one_prompt_is_continued_to_the_end_of_the_window(model: LmModel) -> None:
    assert len(generate(model, [1, 2], 1000, vocab_size=VOCAB, key=KEY)) == model.Pos.size - 1
    assert Generator(model, VOCAB, GREEDY)([[1, 2]], 0, KEY) == [Generated([], False)]


def mesh_of(config: TrainConfig, **compute: list[str]):
    plan = passes.Plan.by_hand({"data": 2, "model": 2}, compute, {}, "v5e")
    return plan_inference(state_shape(config).model, 4, {"data": 2, "model": 2}, "v5e", plan=plan)


@pytest.mark.slow
def test_a_mesh_changes_no_token_and_the_cache_lies_as_the_plan_has_it() -> None:
    config = tiny.llama()
    model = tiny.model(config)
    layout = mesh_of(config, batch=["data"], kv_heads=["model"], mlp=["model"])
    cache = jax.jit(lambda: layout.place(model.cache((hax.Axis("batch", 4),), 32, np.float32)))()
    axes = [axis.name for axis in cache.keys.axes]
    spec = dict(zip(axes, cache.keys.array.sharding.spec, strict=False))
    assert (spec["batch"], spec["kv_heads"]) == ("data", "model")
    placed = jax.device_put(model, layout.model)
    shapes = {shard.data.shape for shard in placed.blocks.stacked.attention.k.weight.array.addressable_shards}
    assert len(shapes) == 1 and shapes != {placed.blocks.stacked.attention.k.weight.array.shape}
    prompts = PROMPTS[:4]
    for how in (GREEDY, DRAWN):
        there = Generator(placed, VOCAB, how, place=lambda tree: layout.place(tree, ["key_position"]))
        assert there(prompts, 8, KEY) == Generator(model, VOCAB, how)(prompts, 8, KEY)
        # Three rows do not divide over the mesh: they are then on every device.
        assert there(prompts[:3], 8, KEY) == Generator(model, VOCAB, how)(prompts[:3], 8, KEY)


def test_the_planner_plans_for_a_model_without_a_cache_too() -> None:
    config = tiny.letters()
    layout = plan_inference(state_shape(config).model, 4, {"data": 2, "model": 4}, "v5e")
    model = tiny.model(config)
    there = Generator(jax.device_put(model, layout.model), VOCAB, DRAWN, place=layout.place)
    assert there(PROMPTS[:4], 8, KEY) == Generator(model, VOCAB, DRAWN)(PROMPTS[:4], 8, KEY)
