"""Which dtype a run keeps its parameters in, computes in, and makes its output in (`trainer.precision`).

    params=float32,compute=bfloat16,output=float32

is what large models are usually trained with: what is added up over many steps is float32, products are bfloat16. What
is not named is as the model's own config says. `compute` and `output` *are* the model's `compute_dtype` and
`logits_dtype`: a policy sets those fields, so a run's `config.yaml` has both and every command sees the same. (No JAX
here; see `levanter.models.config`.)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from levanter.models.config import COMPUTE_DTYPES, LOGITS_DTYPES
from levanter.runtime import errors

PARAMETER_DTYPES = ("float32", "bfloat16")
_FIELDS = {"compute": "compute_dtype", "output": "logits_dtype"}
_KNOWN = {"params": PARAMETER_DTYPES, "compute": COMPUTE_DTYPES, "output": LOGITS_DTYPES}


@dataclass(frozen=True)
class Precision:
    """A policy; None leaves a dtype as it is.

    Attributes:
        params: of parameters at rest, and so of their gradients, updates and moments; None is float32.
        compute: of matrix products.
        output: of what is kept of the scores of tokens for the backward pass; the loss is float32.
    """

    params: str | None = None
    compute: str | None = None
    output: str | None = None

    def applied(self, model: Any) -> Any:
        """The config of a model with its fields as the policy says.

        Raises:
            UserError: it has no such field.
        """
        wanted = {field: dtype for part, field in _FIELDS.items() if (dtype := getattr(self, part)) is not None}
        for part, field in _FIELDS.items():
            if field in wanted and not hasattr(model, field):
                raise errors.no_precision(part, wanted[field], type(model).__name__, field)
        return dataclasses.replace(model, **wanted) if wanted else model


def parse(text: str | None) -> Precision:
    """The policy that a configuration names; one that changes nothing for None.

    Raises:
        UserError: it is not of the form above.
    """
    found: dict[str, str] = {}
    for each in [] if text is None else text.split(","):
        part, equals, dtype = (piece.strip() for piece in each.partition("="))
        if not equals or part not in _KNOWN or part in found or dtype not in _KNOWN[part]:
            raise errors.no_policy(text or "", each.strip(), _KNOWN)
        found[part] = dtype
    return Precision(**found)
