"""What the runtime asks of a language model, and asks of every model alike.

    tokens [..., position] → activations [..., position, …] → logits [..., position, vocab]
                                                            → loss, a number

Training calls `loss`, sampling calls `activations` and `logits`, and the optimizer asks what decays. Nothing else of a
model is looked at: its axes may have any names, and its config any fields. The contract is held when a model is built
(`levanter.models.check`), and a model that does not keep it is refused with the lines that it lacks.
"""

# No `from __future__ import annotations`: equinox reads `AbstractVar` from the annotation itself.

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from haliax import Axis, NamedArray
from levanter.models import errors
from levanter.models.decay import matrices


class LmModel(eqx.Module):
    """A language model. A subclass defines what is abstract here; it may be an `eqx.Module` in every other way.

    `Pos`, `Vocab` and `drops_out` may be properties or static fields.
    """

    if TYPE_CHECKING:  # A type checker takes an `AbstractVar` for a field that every subclass must be given.

        @property
        def Pos(self) -> Axis:
            """The axis of the places of a text, at the longest that the model reads."""
            ...

        @property
        def Vocab(self) -> Axis:
            """The axis of the token ids in its logits."""
            ...

        @property
        def drops_out(self) -> bool:
            """Whether it drops anything at random while training. If so, `loss` is given a key then, else None."""
            ...

    else:
        Pos: eqx.AbstractVar[Axis]
        Vocab: eqx.AbstractVar[Axis]
        drops_out: eqx.AbstractVar[bool]

    def __new__(cls, *arguments: Any, **fields: Any) -> Any:
        # Python's own refusal names what is missing and not how to write it.
        if missing := sorted(cls.__abstractmethods__ | cls.__abstractvars__):  # type: ignore[attr-defined]
            raise errors.contract_missing(cls.__name__, missing)
        return super().__new__(cls)

    @abstractmethod
    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """What the logits are made from.

        Args:
            tokens: int32 [..., Pos], at most `Pos.size` places of them.
            key: for dropout; None drops nothing.

        Returns: [..., Pos, …].
        """

    @abstractmethod
    def logits(self, activations: NamedArray) -> NamedArray:
        """The scores of all tokens: [..., …], as `activations` gives it → float [..., Vocab]."""

    @abstractmethod
    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        """What training makes smaller: the mean cross entropy in nats per target, a float32 scalar.

        Args:
            tokens: int32 [..., Pos].
            targets: int32 [..., Pos], the token to predict at each place. Nothing is learned from a negative one (the
                prompt of a conversation, padding), and the mean is over the others (`levanter.models.loss.mean_loss`);
                the loss is 0 where there are none.
            key: for dropout; None drops nothing.

        A model that can keep documents apart (`data.packing`) takes `segments: NamedArray | None = None` besides, int32
        [..., Pos], equal for the tokens of one document; `evaluation_loss`, where it has one, takes it too.
        """

    def evaluation_loss(
        self, tokens: NamedArray, targets: NamedArray, *, segments: NamedArray | None = None
    ) -> jax.Array:
        """What held-out text is judged by: the mean cross entropy in nats per target, a float32 scalar.

        Here: `loss` without a key. A model whose loss has further terms (a z-loss, the losses of a router) leaves them
        out of this one.
        """
        apart: dict[str, Any] = {} if segments is None else {"segments": segments}
        return self.loss(tokens, targets, key=None, **apart)

    def decays(self) -> Any:
        """What weight decay applies to: this model's tree (or a tree of its gradients) with a bool for each array.

        Here: every array with two axes or more, those that stack layers not counted; no bias and nothing in a norm.
        """
        return matrices(self)

    def __call__(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """tokens int32 [..., Pos] → logits [..., Pos, Vocab]"""
        return self.logits(self.activations(tokens, key=key))
