"""How a run is run, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from levanter.checkpoint.config import CheckpointConfig
from levanter.compiler.question import PlanConfig
from levanter.fields import COUNT, LARGEST_SIZE, SEED, SIZE, at_least, between, check, number, word
from levanter.runtime import errors

GRADIENT_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class WatchConfig:
    """Single parameters whose norms are logged: of the weight, of its gradient, and of its update."""

    parameters: list[str] = field(default_factory=list)
    """Patterns of names of parameters, such as blocks.mlp.* or '*' for all; each time costs about one more step."""
    every: int = number(100, SIZE)
    """Steps between two times."""

    def __post_init__(self) -> None:
        check(self, "trainer.watch")


@dataclass(frozen=True)
class LossScaleConfig:
    """A factor on the loss while its gradient is taken, which float16 needs and bfloat16 does not."""

    kind: str = word("none", ("none", "static", "dynamic"))
    """none; static, always `initial`; or dynamic: halved where a gradient overflows, whose update is then left out."""
    initial: float = number(32768.0, at_least(1))
    """The factor, or the one that a dynamic scale starts with; a power of two."""
    period: int = number(2000, SIZE)
    """Steps without an overflow after which a dynamic scale is doubled."""

    def __post_init__(self) -> None:
        check(self, "trainer.loss_scale")
        if math.frexp(self.initial)[0] != 0.5:
            raise errors.scale_no_power(self.initial)


@dataclass(frozen=True)
class TrainerConfig:
    """Everything about a run that is neither model, data nor optimizer."""

    seed: int = number(0, SEED)
    """Fixes the initial weights, the order of the data and every random number, and so every bit of the run."""
    train_batch_size: int = number(32, SIZE)
    """Sequences in one step, over all devices: the size of axis `batch`."""
    microbatches: int | None = number(1, SIZE)
    """Parts of a batch whose gradients are made one after another and added: the same update in less memory. null is
    the number whose step is fastest of those that fit trainer.hardware; a run fixes that when it starts."""
    gradients_dtype: str | None = word("float32", GRADIENT_DTYPES)
    """What gradients are kept in until the update, and summed in over micro-batches: float32 or bfloat16; null leaves
    it to the plan, which takes bfloat16 where nothing else fits the memory of a device. Between devices a gradient is
    reduced in the dtype of the product that makes it, model.compute_dtype."""
    cpu_threads: int | None = number(None, SIZE)
    """Threads that XLA cuts its work for on a CPU, on which bits depend; null is the cores that there are when the run
    starts, and half of the virtual shards of an elastic run. A run keeps the number where it resumes on more or fewer
    cores."""
    precision: str | None = None
    """Dtypes, such as params=float32,compute=bfloat16,output=float32; what is left out, or null, is as the model says.
    compute sets model.compute_dtype, output model.logits_dtype."""
    loss_scale: LossScaleConfig = field(default_factory=LossScaleConfig)
    frozen: list[str] = field(default_factory=list)
    """Patterns of names of parameters that stay as they are, such as embeddings.*; they have no optimizer state."""
    num_train_steps: int = number(1000, SIZE)
    """Steps of the whole run, those before a resume included."""
    on_nonfinite: str = word("stop", ("stop", "skip", "rewind"))
    """Where the loss or the gradient is no finite number: stop ends the run, skip leaves out the update of that step,
    rewind goes back to a good checkpoint and leaves out the data since."""
    initialize_from: str | None = None
    """A run directory, or one of its checkpoints, whose weights a new run starts from (model.initialize_from is for
    Hugging Face folders)."""
    initialize_optimizer: bool = False
    """Whether a new run takes the optimizer's state from there too; the learning rate starts with its schedule anew."""
    mesh: str | None = None
    """Device mesh, such as 4x2 (data=4, model=2) or replica=2,data=4,model=2, any axes; null trains on one device."""
    plan: PlanConfig | None = None
    """The plan to train by: a file that levanter compile --save-plan wrote, such as plan.yaml, from which the run keeps
    what it says; null lets the planner choose."""
    deterministic: str = word("fast", ("fast", "elastic"))
    """What gives the same bits: the same run on the same mesh (fast), or on any number of devices (elastic)."""
    virtual_shards: int = number(16, between(2, LARGEST_SIZE))
    """Parts of a batch that an elastic run computes one by one and adds up in one order: two or more on each device."""
    hardware: str = "v5e"
    """The chip to plan for: v4, v5e, v5p, v6e, a100, h100, h200, or my_chips.yaml:NAME for one of your own."""
    run_dir: str | None = None
    """Where the run is kept; null means runs/RUN_NAME below the working directory."""
    run_name: str | None = None
    """Name of the run; null takes the name of the config."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval_every: int = number(500, COUNT)
    """Steps between evaluations on held-out text; 0 evaluates at the end only."""
    eval_batches: int = number(16, COUNT)
    """Batches of one evaluation; 0 turns evaluation off."""
    compile_cache: bool = True
    """Whether compiled programs are kept between runs, in ~/.cache/levanter-compiler/programs (or XDG_CACHE_HOME)."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    profile: str | None = None
    """Steps to trace for XProf and Perfetto, such as 20:25, into RUN_DIR/profile; null traces none."""
    callbacks: list[str] = field(default_factory=list)
    """Code of your own that looks on: FILE.py:NAME, or MODULE:NAME, of a levanter.runtime.callbacks.Callback."""
    sample_tokens: int = number(64, COUNT)
    """Tokens of the sample printed at the end; 0 prints none."""

    def __post_init__(self) -> None:
        check(self, "trainer")
        if self.microbatches is not None and self.train_batch_size % self.microbatches:
            raise errors.microbatches_do_not_divide(self.train_batch_size, self.microbatches)
        if self.elastic:
            self._check_elastic()
        if self.initialize_optimizer and self.initialize_from is None:
            raise errors.optimizer_of_nothing()
        _ = self.profiled

    def _check_elastic(self) -> None:
        if self.microbatches is None:
            raise errors.microbatches_by_the_mesh()
        if self.train_batch_size % (self.virtual_shards * self.microbatches):
            raise errors.virtual_shards_do_not_divide(self.train_batch_size, self.virtual_shards, self.microbatches)

    @property
    def profiled(self) -> range:
        """The steps that are traced, counted from 1: of 20:25 those from 20 to 25, both among them.

        Raises:
            UserError: `profile` is not of that form, or holds no step.
        """
        if self.profile is None:
            return range(0)
        match = re.fullmatch(r"\s*(\d+):(\d+)\s*", self.profile)
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= first <= last:
            raise errors.no_window(self.profile)
        return range(first, last + 1)

    @property
    def elastic(self) -> bool:
        """Whether the bits of the run are the same on any number of devices."""
        return self.deterministic == "elastic"
