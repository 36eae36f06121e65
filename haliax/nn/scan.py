"""`Stacked` and `BlockSeq`: the same block many times, one after the other.

`Stacked` keeps the parameters of all blocks in one block whose arrays have the axis of the layers in front, and runs
them in one loop: compile time does not grow with depth. `BlockSeq` keeps a list of blocks and unrolls the loop. Both
have the same methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import equinox as eqx
import jax

from haliax import errors
from haliax.axis import Axis, axes_of
from haliax.core.array import NamedArray
from haliax.hof import loops
from haliax.hof.checkpointing import ScanCheckpointPolicy
from haliax.hof.slices import Caller
from haliax.jax_utils import (
    filter_checkpoint,
    is_jax_array_like,
    is_jax_or_hax_array_like,
    is_named,
    is_single_key,
)
from haliax.ops.create import arange
from haliax.ops.indexing import index
from haliax.ops.shape import unbind
from haliax.state_dict import ModuleWithStateDictSerialization, StateDict, from_state_dict, to_state_dict, with_prefix

M = TypeVar("M", bound=eqx.Module)
M_co = TypeVar("M_co", covariant=True)
Unroll = int | bool | None
"""How many layers make one iteration of the compiled loop; True for all, None for one."""


class ModuleInit(Protocol[M_co]):
    """What `Stacked.init` and `BlockSeq.init` give: it takes the arguments of the block's own `init`."""

    def __call__(self, *args: Any, **kwargs: Any) -> M_co: ...


class FoldFunction(Protocol):
    """What `fold_via` takes: the next carry of a block and a carry."""

    def __call__(self, module: Any, carry: Any, *args: Any, **kwargs: Any) -> Any: ...


class ScanFunction(Protocol):
    """What `scan_via` takes: the next carry and an output, of a block and a carry."""

    def __call__(self, module: Any, carry: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]: ...


class VmapFunction(Protocol):
    """What `vmap_via` takes: a result of a block and the arguments."""

    def __call__(self, module: Any, *args: Any, **kwargs: Any) -> Any: ...


class BlockFoldable(Protocol[M_co]):
    """What `Stacked` and `BlockSeq` have in common, as a type for functions that take either."""

    Block: Axis

    def fold(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> Any: ...

    def scan(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> tuple[Any, Any]: ...

    def fold_via(self, fn: FoldFunction, *, unroll: Unroll = None) -> Callable[..., Any]: ...

    def scan_via(self, fn: ScanFunction, *, unroll: Unroll = None) -> Callable[..., tuple[Any, Any]]: ...

    def vmap_via(self, fn: VmapFunction) -> Callable[..., Any]: ...

    def unstacked(self) -> Sequence[M_co]: ...

    def get_layer(self, index: int) -> M_co: ...


def _call(block: Any, carry: Any, *args: Any, **kwargs: Any) -> Any:
    return block(carry, *args, **kwargs)


def _with_keys_split(Block: Axis, kwargs: dict[str, Any]) -> dict[str, Any]:
    """A single random key called `key` becomes one for each layer."""
    if is_single_key(kwargs.get("key")):
        return {**kwargs, "key": jax.random.split(kwargs["key"], Block.size)}
    return kwargs


class Stacked(ModuleWithStateDictSerialization, Generic[M]):
    """Blocks in one: every array of `stacked` has the axis `Block` in front.

    >>> Layers, Embed = hax.make_axes(layers=3, embed=8)
    >>> block = lambda key: hax.nn.LayerNorm.init(Embed)
    >>> blocks = hax.nn.Stacked.init(Layers, block, gradient_checkpointing=True)(key=jax.random.key(0))
    >>> blocks.stacked.weight.shape
    {'layers': 3, 'embed': 8}
    >>> blocks.fold(hax.ones({"batch": 2, "embed": 8})).shape
    {'batch': 2, 'embed': 8}
    """

    stacked: Any
    """One block, whose NamedArrays have the axis `Block` in front."""
    Block: Axis = eqx.field(static=True)
    """The axis of the layers."""
    gradient_checkpointing: ScanCheckpointPolicy = eqx.field(static=True)
    """What the loops keep for their backward pass."""

    @staticmethod
    def init(
        Block: Axis,
        module: Any,
        *,
        gradient_checkpointing: bool | str | ScanCheckpointPolicy = False,
        prevent_cse: bool | None = None,
    ) -> ModuleInit[Stacked]:
        """A function that makes the blocks: `Stacked.init(Layers, Module)(config, key=keys)`.

        Its arguments go to `module.init`; NamedArrays that have the axis `Block`, and the first dimension of unnamed
        arrays, are taken apart: one slice for each block. `key` may be one key for all, or an array of one for each.

        Args:
            Block: the axis of the layers.
            module: a class with `init`, or a function that makes a block.
            gradient_checkpointing: what the loops keep for their backward pass; see `ScanCheckpointPolicy`.
            prevent_cse: overrides that field of the policy.
        """
        (Block,) = axes_of(Block)
        policy = _policy(gradient_checkpointing, prevent_cse)
        make = getattr(module, "init", module)

        def build(*args: Any, **kwargs: Any) -> Stacked:
            rest: list[Any] = []

            def arrays_of_one(_: Any, *args: Any, **kwargs: Any) -> Any:
                arrays, others = _arrays_and_rest(make(*args, **kwargs))
                rest.append(others)
                return arrays

            # The numbers of the layers are mapped over too, because a block may be made without any array.
            mapped = loops.mapped_at_once(Caller("Stacked.init", own=1), arrays_of_one, Block)
            arrays = mapped(arange(Block), *args, **_with_keys_split(Block, kwargs))
            return Stacked(_together(arrays, rest[-1]), Block, policy)

        return build

    @property
    def Layers(self) -> Axis:
        """The axis of the layers, by its other name."""
        return self.Block

    def fold(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> Any:
        """The last carry of `carry = block(carry, *args, **kwargs)` over the blocks.

        Further arguments that have the axis `Block`, and the first dimension of unnamed arrays, are taken apart: each
        block gets its slice. Of a single random key `key` each block gets a key of its own.
        """
        return self.fold_via(_call, unroll=unroll)(init, *args, **kwargs)

    def __call__(self, init: Any, *args: Any, **kwargs: Any) -> Any:
        """See `fold`."""
        return self.fold(init, *args, **kwargs)

    def scan(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> tuple[Any, Any]:
        """The last carry, and the outputs with the axis `Block`, of `carry, output = block(carry, *args, **kwargs)`."""
        return self.scan_via(_call, unroll=unroll)(init, *args, **kwargs)

    def vmap(self, *args: Any, **kwargs: Any) -> Any:
        """The results of all blocks on the same (or taken apart) arguments, with the axis `Block`."""
        return self.vmap_via(_call)(*args, **kwargs)

    def fold_via(self, fn: Callable[..., Any], *, unroll: Unroll = None) -> Callable[..., Any]:
        """Like `fold`, with `fn(block, carry, *args, **kwargs)` for a block."""

        def step(carry: Any, block: Any, *args: Any, **kwargs: Any) -> Any:
            return fn(block, carry, *args, **kwargs)

        options = {"remat": self.gradient_checkpointing, "unroll": _times(unroll)}
        loop = loops.folded(Caller("Stacked.fold", own=1), step, self.Block, **options)
        return lambda init, *args, **kwargs: loop(init, self.stacked, *args, **_with_keys_split(self.Block, kwargs))

    def scan_via(self, fn: Callable[..., tuple[Any, Any]], *, unroll: Unroll = None) -> Callable[..., tuple[Any, Any]]:
        """Like `scan`, with `fn(block, carry, *args, **kwargs)` for a block."""

        def step(carry: Any, block: Any, *args: Any, **kwargs: Any) -> Any:
            return fn(block, carry, *args, **kwargs)

        options = {"remat": self.gradient_checkpointing, "unroll": _times(unroll)}
        loop = loops.looped(Caller("Stacked.scan", own=1), step, self.Block, **options)
        return lambda init, *args, **kwargs: loop(init, self.stacked, *args, **_with_keys_split(self.Block, kwargs))

    def vmap_via(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Like `vmap`, with `fn(block, *args, **kwargs)` for a block."""
        mapped = loops.mapped_at_once(Caller("Stacked.vmap", own=1), fn, self.Block)
        return lambda *args, **kwargs: mapped(self.stacked, *args, **_with_keys_split(self.Block, kwargs))

    def unstacked(self) -> tuple[Any, ...]:
        """The blocks, one by one."""
        leaves, structure = jax.tree.flatten(self.stacked, is_leaf=is_named)
        columns = [self._slices(leaf) for leaf in leaves]
        layers = range(self.Block.size)
        return tuple(jax.tree.unflatten(structure, [column[layer] for column in columns]) for layer in layers)

    def _slices(self, leaf: Any) -> Sequence[Any]:
        if isinstance(leaf, NamedArray):
            return unbind(leaf, self.Block) if leaf.has_axis(self.Block.name) else [leaf] * self.Block.size
        if is_jax_array_like(leaf) and leaf.ndim:
            return [leaf[layer] for layer in range(self.Block.size)]
        return [leaf] * self.Block.size

    def get_layer(self, index: int) -> Any:
        """The block number `index`."""
        if not -self.Block.size <= index < self.Block.size:
            raise errors.layer_out_of_range(index, self.Block)
        return jax.tree.map(lambda leaf: self._slice(leaf, index), self.stacked, is_leaf=is_named)

    def _slice(self, leaf: Any, layer: int) -> Any:
        if isinstance(leaf, NamedArray):
            return index(leaf, {self.Block.name: layer}) if leaf.has_axis(self.Block.name) else leaf
        return leaf[layer] if is_jax_array_like(leaf) and leaf.ndim else leaf

    def _state_dict_key_map(self) -> dict[str, str | None]:
        """For code that walks fields by itself, as the published Levanter does."""
        return {"stacked": None}

    def to_state_dict(self, prefix: str | None = None) -> StateDict:
        """The arrays of each layer, under the number of the layer."""
        return to_state_dict(self.unstacked(), prefix)

    def from_state_dict(self, state_dict: StateDict, prefix: str | None = None) -> Stacked:
        """The blocks with the arrays of each layer taken from under the number of the layer."""
        like = eqx.filter_eval_shape(Stacked.unstacked, self)
        blocks = [from_state_dict(like[at], state_dict, with_prefix(prefix, str(at))) for at in range(self.Block.size)]
        parts = [_arrays_and_rest(block) for block in blocks]
        arrays = loops.stacked_trees(Caller("Stacked.from_state_dict"), self.Block, [arrays for arrays, _ in parts])
        return dataclasses.replace(self, stacked=_together(arrays, parts[0][1]))


class BlockSeq(ModuleWithStateDictSerialization, Generic[M]):
    """Blocks in a list, run in an unrolled loop. They may differ in their static fields."""

    blocks: Sequence[Any]
    Block: Axis = eqx.field(static=True)
    gradient_checkpointing: ScanCheckpointPolicy = eqx.field(static=True)

    @staticmethod
    def init(
        Block: Axis,
        module: Any,
        *,
        gradient_checkpointing: bool | str | ScanCheckpointPolicy = False,
        prevent_cse: bool | None = None,
    ) -> ModuleInit[BlockSeq]:
        """A function that makes the blocks; see `Stacked.init`."""
        (Block,) = axes_of(Block)
        policy = _policy(gradient_checkpointing, prevent_cse)
        make = getattr(module, "init", module)

        def build(*args: Any, **kwargs: Any) -> BlockSeq:
            given = loops.pieces(Caller("BlockSeq.init"), Block, (args, _with_keys_split(Block, kwargs)))
            return BlockSeq([make(*a, **k) for a, k in given], Block, policy)

        return build

    @property
    def Layers(self) -> Axis:
        """The axis of the layers, by its other name."""
        return self.Block

    def fold(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> Any:
        """The last carry of `carry = block(carry, *args, **kwargs)` over the blocks; see `Stacked.fold`.

        The loop is always unrolled: here and in the other methods `unroll` has no effect.
        """
        return self.fold_via(_call)(init, *args, **kwargs)

    def __call__(self, init: Any, *args: Any, **kwargs: Any) -> Any:
        """See `fold`."""
        return self.fold(init, *args, **kwargs)

    def scan(self, init: Any, *args: Any, unroll: Unroll = None, **kwargs: Any) -> tuple[Any, Any]:
        """The last carry, and the outputs with the axis `Block`, of `carry, output = block(carry, *args, **kwargs)`."""
        return self.scan_via(_call)(init, *args, **kwargs)

    def fold_via(self, fn: Callable[..., Any], *, unroll: Unroll = None) -> Callable[..., Any]:
        """Like `fold`, with `fn(block, carry, *args, **kwargs)` for a block."""

        def folded(init: Any, *args: Any, **kwargs: Any) -> Any:
            for block, (a, k) in self._with_pieces("fold", args, kwargs):
                init = self._checkpointed(fn)(block, init, *a, **k)
            return init

        return folded

    def scan_via(self, fn: Callable[..., tuple[Any, Any]], *, unroll: Unroll = None) -> Callable[..., tuple[Any, Any]]:
        """Like `scan`, with `fn(block, carry, *args, **kwargs)` for a block."""

        def scanned(init: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            outputs = []
            for block, (a, k) in self._with_pieces("scan", args, kwargs):
                result = self._checkpointed(fn)(block, init, *a, **k)
                init, output = loops.carry_and_output(Caller("BlockSeq.scan"), result)
                outputs.append(output)
            return init, loops.stacked_trees(Caller("BlockSeq.scan"), self.Block, outputs)

        return scanned

    def _with_pieces(self, method: str, args: Any, kwargs: Any) -> Iterable[tuple[Any, Any]]:
        """Each block with its slices of the arguments."""
        given = args, _with_keys_split(self.Block, kwargs)
        return zip(self.blocks, loops.pieces(Caller(f"BlockSeq.{method}"), self.Block, given), strict=True)

    def _checkpointed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` under the policy. Outside of a loop only a barrier keeps the compiler from undoing it."""
        policy = self.gradient_checkpointing
        return fn if policy.disable else filter_checkpoint(fn, prevent_cse=True, policy=policy.jax_policy())

    def vmap_via(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The results of `fn(block, *args, **kwargs)` for all blocks, with the axis `Block`."""

        def mapped(*args: Any, **kwargs: Any) -> Any:
            results = [fn(block, *a, **k) for block, (a, k) in self._with_pieces("vmap", args, kwargs)]
            return loops.stacked_trees(Caller("BlockSeq.vmap"), self.Block, results)

        return mapped

    def unstacked(self) -> Sequence[Any]:
        """The blocks, one by one."""
        return self.blocks

    def get_layer(self, index: int) -> Any:
        """The block number `index`."""
        if not -self.Block.size <= index < self.Block.size:
            raise errors.layer_out_of_range(index, self.Block)
        return self.blocks[index]

    def _state_dict_key_map(self) -> dict[str, str | None]:
        return {"blocks": None}


def _policy(setting: Any, prevent_cse: bool | None) -> ScanCheckpointPolicy:
    policy = ScanCheckpointPolicy.of(setting)
    return policy if prevent_cse is None else dataclasses.replace(policy, prevent_cse=prevent_cse)


def _arrays_and_rest(tree: Any) -> tuple[Any, Any]:
    """The tree with its arrays only, and with everything else, such as numbers that Python code decides by."""
    return eqx.partition(tree, is_jax_or_hax_array_like, is_leaf=is_named)


def _together(arrays: Any, rest: Any) -> Any:
    return eqx.combine(arrays, rest, is_leaf=is_named)


def _times(unroll: Unroll) -> int | bool:
    return 1 if unroll is None else unroll
