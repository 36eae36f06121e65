"""Finds axis mistakes: places where two names meet that are not the same axis, sizes agreeing or not, and places that
no rule forbids and that look like a mistake all the same.

Every finding says what is wrong, the source line with a caret where the file can be read, the operands with their named
types, where the names come from, and the fix. The checks are in `passes.checks`, one file for each family of mistakes;
docs/checker.md has an example of each.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ir.graph import Graph
from ir.ops import OPS
from passes import errors, require
from passes.checks import averages, beside, indices, meetings, orders, repeats, softmax, weighted_means
from passes.checks.finding import SILENCEABLE_ERRORS, Finding
from passes.checks.program import Program
from passes.stage import GraphPass

MEETINGS = tuple(rule for op in OPS.values() for rule in op.meetings)
ERRORS = (*MEETINGS, "state", "order")
WARNINGS = (
    "softmax-axis",
    "mean-then-sum",
    "mean-of-means",
    "repeat",
    "index",
    "split-order",
    "regroup",
    "part",
    "beside",
)

CHECKS: tuple[Callable[[Program], Iterator[Finding]], ...] = (
    meetings.check,
    orders.check,
    beside.check,
    softmax.check,
    averages.check,
    weighted_means.check,
    repeats.check,
    indices.check,
)


@dataclass(frozen=True)
class CheckAxes(GraphPass):
    """Pass: raises for axis errors, warns of what is suspicious, changes nothing.

    Attributes:
        ignore: codes of findings that are not wanted: of warnings, and "order".
    """

    ignore: tuple[str, ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        """The same graph. Raises `AxisErrors` with every error; warns (`AxisWarning`) of everything else."""
        findings = axis_findings(graph, self.ignore)
        for each in findings:
            if each.severity == "warning":
                warnings.warn(str(each), errors.AxisWarning, stacklevel=2)
        wrong = [each for each in findings if each.severity == "error"]
        if wrong:
            raise errors.AxisErrors(wrong)
        return graph


def check_axes(graph: Graph, ignore: Iterable[str] = ()) -> Graph:
    """The same graph.

    Args:
        ignore: codes of findings that are not wanted, those of warnings and "order"; one alone, such as "repeat", may
            be text.

    Raises:
        AxisErrors: with every axis error. What is only suspicious is a Python warning, `AxisWarning`.
        UnknownCode: `ignore` has a code that cannot be silenced.
    """
    return CheckAxes(require.codes(ignore, "check_axes"))(require.graph(graph, "check_axes"))


def axis_findings(graph: Graph, ignore: Iterable[str] = ()) -> list[Finding]:
    """All findings, errors and warnings, check by check, each in the order of the program.

    Raises:
        UnknownCode: `ignore` has a code that cannot be silenced.
    """
    silenced = set(require.codes(ignore, "axis_findings"))
    known = (*WARNINGS, *SILENCEABLE_ERRORS)
    for code in sorted(silenced - set(known)):
        raise errors.error_not_silenced(code, known) if code in ERRORS else errors.unknown_code(code, known)
    program = Program.of(require.graph(graph, "axis_findings"))
    found = [each for check in CHECKS for each in check(program) if each.code not in silenced]
    return list({str(each): each for each in found}.values())
