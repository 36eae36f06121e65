"""Attention: the primitives of `haliax.nn.attention`, whose dims have labels."""

from haliax.nn.attention.spec import Spec
from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, Plain, agreed, rule
from ir.staging.unify import DimClass

_MEMBERS = {"attention": "", "attention_backward": "backward", "attention_tangent": "tangent"}


@rule(*_MEMBERS)
def attention(equation: Equation) -> Draft:
    """Equal labels are the same dim, in operands and results."""
    fn = _MEMBERS[equation.primitive]
    spec: Spec = equation.params["spec"]
    first: dict[int, DimClass] = {}
    pairs: list[tuple[DimClass, DimClass]] = []
    for dims, labels in zip(equation.dims, spec.operands_of(fn), strict=True):
        for dim, label in zip(dims, labels, strict=True):
            pairs.append((first.setdefault(label, dim), dim))
    attrs: dict[str, Axes | Plain] = {"over": Axes((first[spec.size],)), "along": Axes((first[spec.keys],))}
    if spec.position is not None:
        attrs["position"] = Axes((first[spec.position],))
    attrs |= _options(spec) | agreed(equation, pairs)
    if fn == "backward":  # a gradient is as what it belongs to, under whatever names
        return Draft("attention", fn, equation.dims[:3], attrs)
    return Draft("attention", fn, tuple([_result(equation, first, own) for own in spec.results_of(fn)]), attrs)


def _result(equation: Equation, first: dict[int, DimClass], labels: tuple[int, ...]) -> Dims:
    out: list[DimClass] = []
    for label in labels:
        dim = first[label]
        twice = any(equation.unifier.alike(dim, other) for other in out)
        out.append(equation.unifier.occurrence(dim, out) if twice else dim)
    return tuple(out)


def _options(spec: Spec) -> dict[str, Axes | Plain]:
    """What is not as it is by default."""
    options: dict[str, Plain | None] = {
        "masks": spec.masks,
        "causal": spec.causal,
        "window": spec.window,
        "prefix": spec.prefix,
        "starts": spec.starts,
        "scale": spec.scale,
        "softcap": spec.softcap,
        "backend": "" if spec.backend == "auto" else spec.backend,
    }
    return {
        key: option
        for key, option in options.items()
        if option is not None and (option or option == 0.0 and key == "scale")
    }
