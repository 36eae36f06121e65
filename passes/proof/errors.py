"""The wording of every refutation."""

from collections.abc import Sequence


class NotProved(Exception):
    """A partitioned graph that is not shown to compute what the step computes.

    Attributes:
        node: the operation, or the input or output, where the proof fails.
        source: the user's line that it comes from; empty where none is known.
        what: the state that it is in, and the fix.
    """

    def __init__(self, graph: str, node: str, source: str, what: str, excerpt: str = "") -> None:
        self.node, self.source, self.what = node, source, what
        where = f"{node} ({source})" if source else node
        super().__init__(f"graph {graph} is refuted at {where}: {what}" + (f"\n{excerpt}" if excerpt else ""))


def at_operand(value: str, position: int, what: str) -> str:
    return f"operand {position}, {value}: {what}"


def at_result(value: str, what: str) -> str:
    return f"{value}: {what}"


def input_is_partial(axes: Sequence[str]) -> str:
    return (
        f"it is partial over {', '.join(axes)}: what goes into a step is whole or sharded, and no reduction is pending"
    )


def output_is_partial(axes: Sequence[str]) -> str:
    over = ", ".join(axes)
    return f"it is still partial over {over}: each device would return its own part; all_reduce it over {over} first"


def carried_elsewhere(before: str, after: str) -> str:
    return f"the state goes in {before} and comes out {after}: bring the output to the layout of the input"


def axis_twice(axis: str) -> str:
    return f"its type uses {axis} twice: a mesh axis shards one dim of a value, or the value is partial over it"


def other_interface(side: str, before: str, after: str) -> str:
    return f"the step before partition has the {side} {before}, this one {after}"


def unknown_computation(before: str) -> str:
    what = "no operation of the step before partition computes this from the same operands"
    return f"{what}; there it is\n  {before}" if before else what


def other_output(before: str) -> str:
    return f"it is not what the step before partition returns here, which is\n  {before}"


def other_effects(before: int, after: int) -> str:
    return f"it has an effect, and stands {before} times in the step before partition, but {after} times here"
