"""Writes the table of rules in `proof.md`: of every op kind, what its rule for layouts says of itself.

python docs/build_proof.py            # write the table
python docs/build_proof.py --check    # exit 1 if the page is not what would be written
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from ir.ops import OPS, Op

PAGE = Path(__file__).parents[1] / "docs" / "proof.md"
START, END = "<!-- rules: python docs/build_proof.py -->", "<!-- end of rules -->"


def page(text: str) -> str:
    """The page with its table as it should be."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def table() -> str:
    """A line for each kind."""
    return "\n".join(["| kind | how its results are laid out |", "|---|---|", *map(_line, OPS.values())])


def _line(op: Op) -> str:
    if type(op).spread is Op.spread:
        return f"| `{op.kind}` | no rule: an assumption |"
    told = [op.spread, *([op.decided] if hasattr(op, "decided") else [])]
    said = " ".join(
        " ".join((inspect.getdoc(each) or "").split()) for each in told if "Raises" not in (inspect.getdoc(each) or "")
    )
    return f"| `{op.kind}` | {said} |"


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(text), encoding="utf-8")
        return 0
    if page(text) == text:
        return 0
    print(f"{PAGE} is not up to date: run `python docs/build_proof.py`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
