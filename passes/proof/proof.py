"""What a proof has shown."""

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
        count = len(self.assumptions)
        line = f"proved: {self.values:,} values, {count} assumption{'' if count == 1 else 's'}"
        return "\n".join([line, *(f"  assumed: {each}" for each in self.assumptions)])
