"""What a loop over layers keeps for its backward pass, and what it computes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax

from haliax import errors

CARRY_NAME = "haliax_carry"
INPUT_NAME = "haliax_input"


@dataclass(frozen=True)
class ScanCheckpointPolicy:
    """A policy of gradient checkpointing for `scan`, `fold` and `Stacked`.

    By default (`True` as the argument `gradient_checkpointing`) only the carry between the layers is kept, and each
    layer is computed again in the backward pass.
    """

    save_carries: bool | Literal["offload"] = True
    """Whether the carry between iterations is kept; "offload" keeps it in host memory."""
    save_inputs: bool | Literal["offload"] = False
    """Whether the scanned inputs of an iteration are kept."""
    save_block_internals: bool | Sequence[str] | Literal["offload"] = False
    """What is kept of an iteration: nothing, all of it, or what `tree_checkpoint_name` gave these names."""
    offload_block_internals: Sequence[str] = ()
    """What of an iteration is kept in host memory, by name."""
    prevent_cse: bool = False
    """Whether the compiler is kept from merging the second computation with the first. A loop needs no such barrier."""
    disable: bool = False
    """Whether nothing is checkpointed: everything is kept."""
    simple: bool = False
    """Whether the body is checkpointed plainly, as `jax.checkpoint` does."""
    nested: bool | int = False
    """Whether the loop is cut in blocks, each of which is checkpointed too: the number of blocks, or True for the
    one nearest to the square root of the trip count. It keeps the carries of the blocks only."""

    @staticmethod
    def from_bool_or_str(setting: bool | str) -> ScanCheckpointPolicy:
        """The policy for `True`, `False`, or one of "offload", "recompute", "full", "save_all" and "nested".

        Raises:
            ValueError: for another string.
        """
        settings: dict[Any, ScanCheckpointPolicy] = {
            True: ScanCheckpointPolicy(),
            False: ScanCheckpointPolicy(disable=True),
            "offload": ScanCheckpointPolicy(save_carries="offload"),
            "recompute": ScanCheckpointPolicy(),
            "full": ScanCheckpointPolicy(),
            "save_all": ScanCheckpointPolicy(disable=True),
            "nested": ScanCheckpointPolicy(nested=True),
        }
        if setting not in settings:
            raise errors.unknown_checkpoint_policy(str(setting), [name for name in settings if isinstance(name, str)])
        return settings[setting]

    @staticmethod
    def of(setting: Any) -> ScanCheckpointPolicy:
        """The policy that `setting` is or names."""
        return setting if isinstance(setting, ScanCheckpointPolicy) else ScanCheckpointPolicy.from_bool_or_str(setting)

    def checkpointed(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """The loop body under this policy."""
        if self.disable:
            return body
        return jax.checkpoint(body, prevent_cse=self.prevent_cse, policy=self.jax_policy())

    def jax_policy(self) -> Any:
        """The policy for `jax.checkpoint`; None keeps nothing of the body."""
        policies = jax.checkpoint_policies
        if self.save_block_internals is True:
            return policies.everything_saveable
        saved, offloaded = self._names()
        if offloaded:
            return policies.save_and_offload_only_these_names(
                names_which_can_be_saved=saved,
                names_which_can_be_offloaded=offloaded,
                offload_src="device",
                offload_dst="pinned_host",
            )
        return policies.save_only_these_names(*saved) if saved else None

    def _names(self) -> tuple[list[str], list[str]]:
        internals = [] if isinstance(self.save_block_internals, bool | str) else list(self.save_block_internals)
        saved, offloaded = internals, list(self.offload_block_internals)
        for setting, name in ((self.save_carries, CARRY_NAME), (self.save_inputs, INPUT_NAME)):
            if setting == "offload":
                offloaded.append(name)
            elif setting and name == INPUT_NAME:
                saved.append(name)
        return saved, offloaded

    def blocks(self, trips: int) -> int | None:
        """Into how many equal blocks a loop of so many trips is cut; None for a plain loop."""
        if not self.nested or trips < 2:
            return None
        wanted = round(trips**0.5) if self.nested is True else self.nested
        divisors = [count for count in range(1, trips + 1) if trips % count == 0]
        return min(divisors, key=lambda count: (abs(count - wanted), count))
