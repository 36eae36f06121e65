"""What a loop over layers keeps for its backward pass, and what it computes again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax

from haliax import errors

CARRY_NAME = "haliax_carry"
INPUT_NAME = "haliax_input"


@dataclass(frozen=True)
class ScanCheckpointPolicy:
    """A policy of gradient checkpointing for `scan`, `fold` and `Stacked`.

    By default only the carry between the layers is kept, and each layer is computed again in the backward pass. (The
    scanned inputs are there anyway, and are not copied.)
    """

    save_carries: bool | Literal["offload"] = True
    """Whether the carry between iterations is kept; "offload" keeps it in host memory."""
    save_inputs: bool | Literal["offload"] = False
    """Whether the scanned inputs of an iteration are kept."""
    save_block_internals: bool | Sequence[str] = False
    """What is kept of an iteration: nothing, all of it, or what `tree_checkpoint_name` gave these names."""
    offload_block_internals: Sequence[str] = field(default_factory=list)
    """What of an iteration is kept in host memory, by name."""
    prevent_cse: bool = False
    """Whether the compiler is kept from merging the second computation with the first. A loop needs no such barrier."""
    disable: bool = False
    """Whether nothing is checkpointed: everything is kept."""
    simple: bool = False
    """Whether the body is checkpointed plainly, as `jax.checkpoint` does, whatever the fields above say."""
    nested: bool | int = False
    """Whether the loop is cut in blocks, each of which is checkpointed too: the number of blocks, or True for the
    one nearest to the square root of the trip count. It keeps the carries of the blocks only."""

    def __hash__(self) -> int:
        values = (getattr(self, entry.name) for entry in dataclasses.fields(self))
        return hash(tuple(tuple(value) if isinstance(value, list) else value for value in values))

    @staticmethod
    def from_bool_or_str(remat_policy: bool | str) -> ScanCheckpointPolicy:
        """The policy of this name.

        Args:
            remat_policy: True keeps the carries; False and "save_all" everything; "offload" keeps the carries and
                inputs in host memory; "recompute" and "full" as little as can be; "nested" the carries of blocks only.

        Raises:
            ValueError: for another string.
        """
        policies: dict[Any, ScanCheckpointPolicy] = {
            True: ScanCheckpointPolicy(simple=True),
            False: ScanCheckpointPolicy(True, True, True, disable=True),
            "offload": ScanCheckpointPolicy("offload", "offload"),
            "recompute": ScanCheckpointPolicy(save_carries=False),
            "full": ScanCheckpointPolicy(save_carries=False),
            "save_all": ScanCheckpointPolicy(True, True, True),
            "nested": ScanCheckpointPolicy(nested=True),
        }
        if remat_policy not in policies:
            known = [name for name in policies if isinstance(name, str)]
            raise errors.unknown_checkpoint_policy(str(remat_policy), known)
        return policies[remat_policy]

    @staticmethod
    def of(setting: Any) -> ScanCheckpointPolicy:
        """The policy that `setting` is or names."""
        return setting if isinstance(setting, ScanCheckpointPolicy) else ScanCheckpointPolicy.from_bool_or_str(setting)

    def checkpointed(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """The loop body under this policy."""
        return self.checkpoint(CARRY_NAME, INPUT_NAME, body)

    def checkpoint(self, carry_name: str, input_name: str, callable: Callable[..., Any]) -> Callable[..., Any]:  # noqa: A002
        """The function under this policy, as published code asks for it.

        Args:
            carry_name: what `tree_checkpoint_name` calls the carry in the function.
            input_name: what it calls the scanned inputs there.
            callable: the loop body, or any function.
        """
        if self.disable:
            return callable
        policy = None if self.simple else self.jax_policy(carry_name, input_name)
        return jax.checkpoint(callable, prevent_cse=self.prevent_cse, policy=policy)

    def jax_policy(self, carry_name: str = CARRY_NAME, input_name: str = INPUT_NAME) -> Any:
        """The policy for `jax.checkpoint`; None keeps nothing of the body.

        Args:
            carry_name: what the carry is called by `tree_checkpoint_name`.
            input_name: what the scanned inputs are called.
        """
        policies = jax.checkpoint_policies
        if self.save_block_internals is True:
            return policies.everything_saveable
        saved, offloaded = self._names(carry_name, input_name)
        if offloaded:
            return policies.save_and_offload_only_these_names(
                names_which_can_be_saved=saved,
                names_which_can_be_offloaded=offloaded,
                offload_src="device",
                offload_dst="pinned_host",
            )
        return policies.save_only_these_names(*saved) if saved else None

    def _names(self, carry_name: str, input_name: str) -> tuple[list[str], list[str]]:
        internals = [] if isinstance(self.save_block_internals, bool) else list(self.save_block_internals)
        saved, offloaded = internals, list(self.offload_block_internals)
        for setting, name in ((self.save_carries, carry_name), (self.save_inputs, input_name)):
            if setting == "offload":
                offloaded.append(name)
            elif setting and name == input_name:
                saved.append(name)
        return saved, offloaded

    def blocks(self, trips: int) -> int | None:
        """Into how many equal blocks a loop of so many trips is cut; None for a plain loop.

        Raises:
            AxisError: if the number of blocks that the policy gives does not divide the trips.
        """
        if not self.nested or trips < 2:
            return None
        if self.nested is not True:
            if trips % self.nested:
                raise errors.not_divisible("a nested loop", trips, self.nested)
            return self.nested
        divisors = [count for count in range(1, trips + 1) if trips % count == 0]
        return min(divisors, key=lambda count: (abs(count - trips**0.5), count))
