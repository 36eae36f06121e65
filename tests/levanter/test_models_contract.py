"""Any model that keeps the contract is trained, evaluated, sampled, compiled and checked; others are refused early."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.checkpoint.config import CheckpointConfig
from levanter.compiler.compile import report
from levanter.compiler.graphs import check_config
from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.errors import UserError
from levanter.inference.generate import generate
from levanter.models import LmModel, ModelConfig
from levanter.models.check import build
from levanter.models.decay import matrices
from levanter.optim.adamw.config import AdamWConfig
from levanter.registry import MODELS
from levanter.runtime import rng
from levanter.runtime.config import TrainerConfig
from levanter.runtime.state import LmBatch, flat_names, init_state, make_train_step, state_shape
from levanter.runtime.trainer import train

pytestmark = pytest.mark.hurried

Hidden, Inner, Layers = Axis("hidden", 8), Axis("inner", 16), Axis("depth", 2)


@dataclass(frozen=True)
class LetterConfig(ModelConfig):
    """A model that has no axis, and no field of dropout, with a name that GPT-2 has."""

    letter_drop: float = 0.0

    @property
    def Pos(self) -> Axis:
        return Axis("time", self.seq_len)

    @property
    def Vocab(self) -> Axis:
        return Axis("letter", self.vocab_size)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        return LetterModel.init(self, Vocab, key)


class Block(eqx.Module):
    norm: hnn.RmsNorm  # [hidden]
    up: hnn.Linear  # [hidden] → [inner]
    down: hnn.Linear  # [inner] → [hidden]

    @staticmethod
    def init(*, key: jax.Array) -> Block:
        up, down = (hnn.Linear.init(*axes, key=key) for axes in ((Hidden, Inner), (Inner, Hidden)))
        return Block(hnn.RmsNorm.init(Hidden), up, down)

    def __call__(self, x: NamedArray) -> NamedArray:
        return x + self.down(hax.tanh(self.up(self.norm(x))))


class LetterModel(LmModel):
    """Each place reads the mean of the letters so far."""

    letters: NamedArray  # [letter, hidden]
    blocks: hnn.Stacked  # [depth] of Block
    head: NamedArray  # [hidden, letter]
    bias: NamedArray  # [letter]
    drop: hnn.Dropout
    Pos: Axis = eqx.field(static=True)

    @staticmethod
    def init(config: LetterConfig, Vocab: Axis, key: jax.Array) -> LetterModel:
        return LetterModel(
            letters=hax.random.normal(rng.named(key, "letters"), (Vocab, Hidden)),
            blocks=hnn.Stacked.init(Layers, Block)(key=jax.random.split(key, Layers.size)),
            head=hax.random.normal(rng.named(key, "head"), (Hidden, Vocab)) * 0.1,
            bias=hax.zeros(Vocab),
            drop=hnn.Dropout(config.letter_drop),
            Pos=config.Pos,
        )

    @property
    def Vocab(self) -> Axis:
        return self.bias.axes[0]

    @property
    def drops_out(self) -> bool:
        return self.drop.pdrop > 0

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        x = self.letters.take(self.Vocab, tokens)
        x = x if key is None else self.drop(x, key=key)
        sums = hax.cumsum(x, "time")
        return self.blocks.fold(sums / (hax.arange(tokens.resolve_axis("time")) + 1.0))

    def logits(self, activations: NamedArray) -> NamedArray:
        return hax.dot(activations, self.head, axis=Hidden) + self.bias

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        scores = hnn.log_softmax(self(tokens, key=key), self.Vocab)
        picked = hax.sum(hax.where(hnn.one_hot(targets, self.Vocab, dtype=bool), scores, 0.0), self.Vocab)
        return -hax.mean(picked).scalar()


@pytest.fixture
def letters() -> Iterator[None]:
    ModelConfig.register_subclass("letters", LetterConfig)
    yield
    MODELS.remove("letters")


@pytest.fixture
def config(tmp_path: Path, letters: None) -> TrainConfig:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog and comes back again\n" * 200)
    return TrainConfig(
        model=LetterConfig(seq_len=8, vocab_size=50304),
        data=TextDataConfig(paths=[str(text)], cache_dir=str(tmp_path / "cache")),
        optimizer=AdamWConfig(learning_rate=0.05, warmup=0.0, lr_schedule="constant", weight_decay=0.5),
        trainer=TrainerConfig(
            train_batch_size=4,
            num_train_steps=12,
            run_dir=str(tmp_path / "run"),
            eval_every=6,
            eval_batches=1,
            sample_tokens=4,
            checkpoint=CheckpointConfig(every_steps=6),
        ),
    )


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_another_model_trains_evaluates_samples_and_resumes(config: TrainConfig, tmp_path: Path) -> None:
    output = io.StringIO()
    state = train(config, Console(file=output))
    record = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert record[-1]["loss"] < 0.8 * record[0]["loss"]
    assert [each["step"] for each in record if "heldout_loss" in each] == [6, 12]
    assert "held-out loss" in output.getvalue() and "sample: The" in output.getvalue()
    drawn = generate(state.model, [1, 2, 3], 5, vocab_size=100, key=jax.random.key(0))
    assert len(drawn) == 5 and max(drawn) < 100

    short = dataclasses.replace(config.trainer, num_train_steps=7, run_dir=str(tmp_path / "again"))
    again = dataclasses.replace(config, trainer=short)
    train(again, Console(file=io.StringIO()))
    train(dataclasses.replace(again, trainer=dataclasses.replace(short, num_train_steps=12)), Console(file=output))
    assert losses(tmp_path / "again") == losses(tmp_path / "run")


def test_another_model_is_compiled_for_a_mesh_and_checked(config: TrainConfig) -> None:
    small = dataclasses.replace(config, model=LetterConfig(seq_len=16, vocab_size=64))
    assert check_config(small, []) == []
    planned = report(small, {"data": 4, "model": 2}, "v5e")
    assert {row["name"] for row in planned["axes"]} >= {"batch", "time", "letter", "hidden", "inner", "depth"}
    assert {row["path"] for row in planned["parameters"]} >= {"model.letters", "model.blocks.up.weight", "model.head"}


def test_its_own_dropout_is_of_the_step_and_its_own_matrices_decay(config: TrainConfig) -> None:
    model = LetterConfig(seq_len=16, vocab_size=64, letter_drop=0.5)
    small = dataclasses.replace(config, model=model)
    state = init_state(small)
    tokens = hax.zeros((Axis("batch", 8), model.Pos), dtype=jnp.int32)
    batch = LmBatch(tokens, tokens)
    step = jax.jit(make_train_step(small.optimizer.build(30, LetterModel.decays), seed=0))
    _, metrics = step(state, batch)
    _, later = step(dataclasses.replace(state, step=state.step + 1), batch)
    assert step(state, batch)[1]["loss"] == metrics["loss"] != later["loss"]
    decaying = {name for name, decays in flat_names(state.model.decays()).items() if decays}
    assert decaying == {"letters", "blocks.up.weight", "blocks.down.weight", "head"}
    # With no gradient at all, decay alone moves what decays.
    transform = small.optimizer.build(30, LetterModel.decays).transform
    zeros = jax.tree.map(jnp.zeros_like, state.model)
    updates, _ = transform.update(zeros, transform.init(state.model), state.model)
    moved = {name for name, update in flat_names(updates).items() if np.any(np.asarray(update))}
    assert moved == decaying


def test_what_decays_is_known_by_names_and_not_by_one_name() -> None:
    tree = {
        "up": hax.zeros((Hidden, Inner)),
        "bias": hax.zeros((Hidden, Inner)),
        "qk_bias": hax.zeros((Hidden, Inner)),
        "scale": hax.zeros(Hidden),
        "by_hand": {"weight": hax.zeros((Axis("layers", 2), Hidden))},
        "raw": jnp.zeros((3, 4)),
        "vector": jnp.zeros(3),
        "norm": hnn.LayerNorm.init((Hidden, Inner)),
        "blocks": hnn.Stacked(
            {"raw": jnp.zeros((2, 3)), "matrix": jnp.zeros((2, 3, 4))}, Layers, hnn.ScanCheckpointPolicy.of(False)
        ),
    }
    assert {name for name, decays in flat_names(matrices(tree)).items() if decays} == {"up", "raw", "blocks.matrix"}


# --- what is refused ---


class Documented(eqx.Module):
    """What the first documentation asked for, and no more."""

    weight: NamedArray

    def __call__(self, tokens: NamedArray) -> NamedArray:
        return self.weight.take("vocab", tokens)

    def loss(self, tokens: NamedArray, targets: NamedArray) -> jax.Array:
        return hax.mean(self(tokens)).scalar()


class Bare(LmModel):
    Pos: Axis = eqx.field(static=True)
    Vocab: Axis = eqx.field(static=True)

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        return hnn.one_hot(tokens, self.Vocab)

    def logits(self, activations: NamedArray) -> NamedArray:
        return activations


class Whole(Bare):
    weight: NamedArray = dataclasses.field(default_factory=lambda: hax.zeros(Hidden))

    @property
    def drops_out(self) -> bool:
        return False

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        return hax.mean(self.weight).scalar()


class NoKey(Whole):
    def loss(self, tokens: NamedArray, targets: NamedArray) -> jax.Array:  # type: ignore[override]
        return hax.mean(self.weight).scalar()


class Leaf(Bare):
    drops_out: bool = False

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        return jnp.zeros(())


class Number(Whole):
    @property
    def drops_out(self) -> Any:
        return 0.5


class Silent(Whole):
    attention: hnn.Dropout = dataclasses.field(default_factory=lambda: hnn.Dropout(0.5))


class NamedLoss(Whole):
    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> Any:
        return hax.mean(self.weight)


class LostPlaces(Whole):
    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        return hax.sum(hnn.one_hot(tokens, self.Vocab), self.Pos)


class OtherScores(Whole):
    def logits(self, activations: NamedArray) -> NamedArray:
        return activations.rename({self.Vocab.name: "score"})


class OtherDecays(Whole):
    def decays(self) -> Any:
        return [True]


SIGNATURE_OF_LOSS = (
    "    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:\n"
    "        # int32 [..., Pos] each → the mean cross entropy in nats over the targets >= 0, a float32 scalar"
)
SIGNATURE_OF_DROPS_OUT = (
    "    @property\n    def drops_out(self) -> bool:  # whether it drops anything at random while training"
)
SIGNATURE_OF_ACTIVATIONS = (
    "    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:\n"
    "        # tokens int32 [..., Pos] → [..., Pos, …], what the logits are made from; without a key nothing is dropped"
)
SIGNATURE_OF_LOGITS = (
    "    def logits(self, activations: NamedArray) -> NamedArray:\n"
    "        # [..., …], as `activations` gives it → float [..., Vocab]"
)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Documented,
            "Documented is not an LmModel. Write\n\nfrom levanter.models import LmModel\n\nclass Documented(LmModel):\n"
            "    @property\n"
            "    def Pos(self) -> Axis:  # the axis of the places of a text, at the longest that the model reads\n\n"
            "    @property\n    def Vocab(self) -> Axis:  # the axis of the token ids in its logits\n\n"
            f"{SIGNATURE_OF_DROPS_OUT}\n\n{SIGNATURE_OF_ACTIVATIONS}\n\n{SIGNATURE_OF_LOGITS}\n\n{SIGNATURE_OF_LOSS}",
        ),
        (
            Bare,
            f"the model Bare lacks `drops_out`, `loss`. Write in it\n\n{SIGNATURE_OF_DROPS_OUT}\n\n{SIGNATURE_OF_LOSS}",
        ),
        (
            NoKey,
            "`NoKey.loss(tokens: 'NamedArray', targets: 'NamedArray') -> 'jax.Array'` does not take what it is given "
            f"(got an unexpected keyword argument 'key'). Write\n\n{SIGNATURE_OF_LOSS}",
        ),
        (
            Leaf,
            "`Leaf.drops_out` is a field that is not static, so it would be trained. Write\n\n"
            "    drops_out: bool = eqx.field(static=True)",
        ),
        (
            Number,
            f"`Number.drops_out` is of type float and must be of type bool. Write\n\n{SIGNATURE_OF_DROPS_OUT}",
        ),
        (
            Silent,
            "Silent has a layer of dropout and says that it drops nothing (`drops_out` is False), so nothing would be "
            f"dropped in training. Say it:\n\n{SIGNATURE_OF_DROPS_OUT}",
        ),
        (
            NamedLoss,
            f"`NamedLoss.loss` gives float32[] and must give one float32 number, no NamedArray:\n\n{SIGNATURE_OF_LOSS}",
        ),
        (
            LostPlaces,
            "`LostPlaces.activations` gives float32[vocab=64] and must give a NamedArray with the axis "
            f"position(16):\n\n{SIGNATURE_OF_ACTIVATIONS}",
        ),
        (
            OtherScores,
            "`OtherScores.logits` gives float32[score=64] and must give floats with the axis vocab(64) for one place"
            f":\n\n{SIGNATURE_OF_LOGITS}",
        ),
        (
            OtherDecays,
            "`OtherDecays.decays` gives a list and must give the tree of the model with a bool for each array:\n\n"
            "    def decays(self) -> Any:\n"
            "        # the tree of the model with a bool for each array: whether weight decay applies",
        ),
    ],
)
def test_a_model_that_does_not_keep_the_contract_is_refused_when_it_is_built(model: type, message: str) -> None:
    @dataclass(frozen=True)
    class Config(ModelConfig):
        def build(self, Vocab: Axis, *, key: Any) -> Any:
            return Documented(hax.zeros(Vocab)) if model is Documented else model(Pos=self.Pos, Vocab=Vocab)

    with pytest.raises(UserError) as caught:
        state_shape(TrainConfig(model=Config(seq_len=16, vocab_size=64)))
    assert str(caught.value) == message


def test_a_model_that_keeps_it_is_built() -> None:
    config = LetterConfig(seq_len=16, vocab_size=64)
    model = jax.eval_shape(lambda: build(config, jax.random.key(0)))
    assert (model.Pos, model.Vocab, model.drops_out) == (config.Pos, config.Vocab, False)
