"""Holds a family against `transformers`: a model with random weights goes through our hands and comes back.

transformers' model ─ save_pretrained ─▶ import ─▶ our logits, beside theirs
                                           └─ export ─▶ transformers loads it: no warning, the same logits;
                                                        every tensor has the bytes it had
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

import ir
import passes
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


class Inputs(Protocol):
    """What both models are given, and what is compared."""

    architecture: str
    """The class of transformers."""

    def theirs(self, model: Any) -> np.ndarray:
        """The logits of the reference's model."""
        ...

    def ours(self, model: Any, config: Any) -> np.ndarray:
        """Ours, of the same shape."""
        ...

    def counts(self) -> np.ndarray:
        """Where they are compared, a mask of that shape or of one that broadcasts to it."""
        ...

    def step(self, config: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """A step to plan, and its arguments; None means the training step of a language model."""
        ...


@dataclass(frozen=True)
class Family:
    """A family's smallest model that has all its peculiarities.

    Attributes:
        config: makes the reference's config; called where torch is there.
        inputs: what both models are given.
        planned: whether its step is planned, too; once for each family is enough.
    """

    name: str
    config: Callable[[], Any]
    inputs: Inputs
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
    reference = random_model(family.config(), family.inputs.architecture)
    reference.save_pretrained(folder / "theirs")
    opened = open_folder(str(folder / "theirs"))
    config = opened.model_config()
    like = jax.eval_shape(lambda: fresh(config))
    model = import_model(opened, config, like)

    theirs = family.inputs.theirs(reference)
    difference = np.where(family.inputs.counts(), family.inputs.ours(model, config) - theirs, 0)
    assert np.abs(theirs).max() > 0.1, "logits this small would agree whatever the model does"

    companions = {path.name: path.read_bytes() for path in opened.companions()}
    export_model(folder / "ours", config, flat_names(model), like, companions=companions)
    with warnings_of_transformers() as warned:
        again, info = type(reference).from_pretrained(folder / "ours", output_loading_info=True)
        same = np.array_equal(family.inputs.theirs(again.eval()), theirs)
    problems = [key for key, value in info.items() if value]
    assert not problems, info
    assert not warned, warned
    return Found(
        name=family.name,
        difference=float(np.abs(difference).max()),
        loads=same,
        identical=tensor_bytes(folder / "theirs") == tensor_bytes(folder / "ours"),
        planned=is_planned(family.inputs, config) if family.planned else None,
    )


def random_model(config: Any, architecture: str, seed: int = 0) -> Any:
    """The reference's model of a config, every parameter random: a bias of 0 or a norm of 1 would hide a mistake."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, architecture)._from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.ndim == 1 and bool((parameter == 1).all()) else 0.0
            parameter.copy_(centre + 0.1 * torch.randn_like(parameter))
    return model


def fresh(config: Any) -> Any:
    """A freshly initialized model of ours."""
    key = jax.random.key(0)
    return build(config, key) if isinstance(config, ModelConfig) else config.build(key=key)


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


def is_planned(inputs: Inputs, config: Any) -> bool:
    """Whether its training step is planned for 4x2, without a finding."""
    mesh = {"data": 4, "model": 2}
    given = inputs.step(config)
    if given is None:
        planned = report(TrainConfig(model=config, trainer=TrainerConfig(train_batch_size=8)), mesh, "v5e")
        return bool(planned["axes"])
    step, arguments = given
    graph = passes.check_axes(ir.trace(step, *arguments))
    return passes.plan(graph, mesh=mesh).mesh.as_dict() == mesh


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
