"""What a proof has shown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from passes.proof.layouts import Assumption


@dataclass(frozen=True)
class Proof:
    """What was shown.

    Attributes:
        values: how many values are laid out as their types say, those of bodies included.
        assumptions: operations without a rule.
        against: whether the graph before partition was at hand, and is the same.
    """

    values: int
    assumptions: tuple[Assumption, ...]
    against: bool

    def __str__(self) -> str:
        return "\n".join(proof_lines(self.values, [str(each) for each in self.assumptions]))


def proof_lines(values: int, assumptions: Sequence[str]) -> list[str]:
    """`proved: 1,204 values, 0 assumptions`, and a line for each assumption; equal ones are counted."""
    count = len(assumptions)
    lines = [f"proved: {values:,} values, {count} assumption{'' if count == 1 else 's'}"]
    for text, times in Counter(assumptions).items():
        lines.append(f"  assumed: {text}" + (f", {times} times" if times > 1 else ""))
    return lines
