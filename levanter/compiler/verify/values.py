"""Whether a laid out step gives the same values on its mesh as on one device, asked in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.compiler.verify.isolate import answer_in_child

CONFIG_VALUES = "levanter.compiler.values:values_of_config"
STEP_VALUES = "levanter.compiler.values:values_of_step"


def checked_values(request: Mapping[str, Any], devices: int, function: str, partitioner: str) -> dict[str, Any]:
    """The `values` of `levanter compile --json` (see docs/proof_by_values.md).

    Args:
        request: which step, and the plan.
        devices: how many the mesh has.
        function: `CONFIG_VALUES` or `STEP_VALUES`.
        partitioner: whose program of one device, as in `passes.lower`.

    Raises:
        UserError: the step cannot be loaded again in the child process.
        WorkFailed: the child process failed.
    """
    return answer_in_child({**request, "partitioner": partitioner}, devices=devices, function=function)
