"""Holds a family against `transformers`: a model with random weights goes through our hands and comes back.

transformers' model ─ save_pretrained ─▶ import ─▶ our logits, beside theirs
                                           └─ export ─▶ transformers loads it: no warning, the same logits;
                                                        every tensor has the bytes it had
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
from levanter.compiler.compile import report
from levanter.config.schema import TrainConfig
from levanter.hf.exporting import export_model
from levanter.hf.folder import open_folder
from levanter.hf.importing import import_model
from levanter.hf.safetensors import read_folder
from levanter.models.check import build
from levanter.models.config import ModelConfig
from levanter.runtime.config import TrainerConfig
from levanter.runtime.state import flat_names

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
ROWS = 3
"""Of a batch: one that is full, one padded on the right, one padded on the left."""


@dataclass(frozen=True)
class Family:
    """A family's smallest model that has all its peculiarities.

    Attributes:
        config: makes the reference's config; called where torch is there.
        length: places to compare, as many as the model reads.
        planned: whether its step is planned, too; once for each family is enough.
    """

    name: str
    config: Callable[[], Any]
    length: int
    planned: bool = True


@dataclass(frozen=True)
class Found:
    """A row of the table."""

    name: str
    difference: float
    loads: bool
    identical: bool
    planned: bool | None

    def row(self) -> str:
        """As Markdown."""
        said = (
            {True: "yes", False: "NO", None: "as above"}[each] for each in (self.loads, self.identical, self.planned)
        )
        return f"| {self.name} | {self.difference:.0e} | {' | '.join(said)} |"


def compare(family: Family, folder: Path) -> Found:
    """All that the table says of a family, and every assertion behind it."""
    reference = random_model(family.config())
    reference.save_pretrained(folder / "theirs")
    opened = open_folder(str(folder / "theirs"))
    config = opened.model_config()
    like = jax.eval_shape(lambda: build(config, jax.random.key(0)))
    model = import_model(opened, config, like)

    tokens, mask = batch(config.vocab_size, family.length)
    theirs = reference_logits(reference, tokens, mask)
    difference = float(np.abs(np.where(mask[..., None], our_logits(model, config, tokens, mask) - theirs, 0)).max())

    companions = {path.name: path.read_bytes() for path in opened.companions()}
    export_model(folder / "ours", config, flat_names(model), like, companions=companions)
    with warnings_of_transformers() as warned:
        again, info = type(reference).from_pretrained(folder / "ours", output_loading_info=True)
        same = np.array_equal(reference_logits(again.eval(), tokens, mask), theirs)
    problems = [key for key, value in info.items() if value]
    assert not problems, info
    assert not warned, warned
    return Found(
        name=family.name,
        difference=difference,
        loads=same,
        identical=tensor_bytes(folder / "theirs") == tensor_bytes(folder / "ours"),
        planned=is_planned(config) if family.planned else None,
    )


def random_model(config: Any, seed: int = 0) -> Any:
    """The reference's model of a config, every parameter random: a bias of 0 or a norm of 1 would hide a mistake."""
    from transformers import AutoModelForCausalLM

    return random_weights(AutoModelForCausalLM.from_config(config), seed)


def random_weights(model: Any, seed: int = 0) -> Any:
    """The model itself, with every parameter random and nothing dropped."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.ndim == 1 and bool((parameter == 1).all()) else 0.0
            parameter.copy_(centre + 0.1 * torch.randn_like(parameter))
    return model.eval()


def batch(vocab_size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random ids [batch, position], and where they are no padding."""
    tokens = np.random.default_rng(0).integers(0, vocab_size, (ROWS, length)).astype(np.int32)
    mask = np.ones_like(tokens, dtype=bool)
    mask[1, length - length // 3 :] = False
    mask[2, : length // 4] = False
    return tokens, mask


def reference_logits(model: Any, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32 [batch, position, vocab]; positions count from the first token that is no padding."""
    import torch

    attention = torch.tensor(mask.astype(np.int64))
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    ids = torch.tensor(tokens.astype(np.int64))
    with torch.no_grad():
        return model(ids, attention_mask=attention, position_ids=positions, use_cache=False).logits.numpy()


def our_logits(model: Any, config: ModelConfig, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same of ours: padding is a text of its own."""
    ids = hax.named(jnp.asarray(tokens), ("batch", "position"))
    segments = hax.named(jnp.asarray(~mask, jnp.int32), ("batch", "position"))
    assert "segments" in inspect.signature(model.activations).parameters

    @jax.jit
    def logits(model: Any, ids: Any, segments: Any) -> Any:
        return model.logits(model.activations(ids, segments=segments))

    return np.asarray(logits(model, ids, segments).array)[..., : config.vocab_size]


@contextmanager
def warnings_of_transformers() -> Iterator[list[str]]:
    """What `transformers` logs at level WARNING or above in the block."""
    from transformers.utils import logging as its_logging

    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logger = its_logging.get_logger("transformers")
    logger.addHandler(handler)
    try:
        yield seen
    finally:
        logger.removeHandler(handler)


def tensor_bytes(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of a folder: dtype, shape and bytes."""
    return {
        name: (tensor.dtype.name, tensor.shape, tensor.view().tobytes()) for name, tensor in read_folder(folder).items()
    }


def is_planned(config: ModelConfig) -> bool:
    """Whether its training step is planned for 4x2, without a finding."""
    small = TrainConfig(model=config, trainer=TrainerConfig(train_batch_size=8))
    planned = report(small, {"data": 4, "model": 2}, "v5e")
    return bool(planned["axes"]) and json.dumps(planned) != ""


def note(found: Found, update: bool) -> None:
    """Print the row, and hold its words against the page (the difference depends on the machine); or write it there."""
    print(found.row())
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    here = next((i for i, line in enumerate(lines) if line.startswith(f"| {found.name} |")), None)
    if update:
        if here is None:
            here = max(i for i, line in enumerate(lines) if line.startswith("|")) + 1
            lines.insert(here, "")
        lines[here] = found.row()
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert here is not None, f"{found.name} has no row in {PAGE}: run pytest with --update-golden"
    assert lines[here].split("|")[3:] == found.row().split("|")[3:]
