"""linalg: factorizations, solves and Fourier transforms: functions of whole dims (`along`), batched over the others.

A form such as `mn->mk,kn` says which dims of the results are which dims of the operands: equal letters are the same
dim. A letter of the results alone is a new one, which no operand has: the columns of Q, the order of eigenvalues.
"""

from collections.abc import Sequence
from typing import Any

from ir import errors
from ir.graph import Node, Value
from ir.ops.dtypes import related
from ir.ops.op import Names, Op, names_of, params_of
from ir.ops.rule import Expected, Hole, Piece, Slot, has, listed, must, operands, same
from ir.ops.spread import Labels, Spread, Walked, all_whole, nothing_pending, pending, replicated
from ir.ring import digest, ring_dtype
from ir.shards import Shards
from ir.types import Dim

FORMS = {
    "cholesky": "ij->ij",
    "cholesky_update": "ij,j->ij,j",
    "eig": "ij->k,ik,ik",
    "eigh": "ij->ik,k",
    "geqp3": "mn,n->mn,n,k",
    "geqrf": "mn->mn,k",
    "hessenberg": "ij->ij,k",
    "householder_product": "mn,k->mn",
    # Packed factors: the rows of L, in pivoted order, and the columns of U share an array, so neither names its dims.
    "lu": "mn->pq,k,p",
    "lu_pivots_to_permutation": "k->p",
    "ormqr": "mn,k,ij->ij",
    "qr": "mn->mk,kn",
    "schur": "ij->kl,il",
    "svd": "mn->k,mk,kn",
    "symmetric_product": "nk,nm->nm",
    "tridiagonal": "ij->ij,d,e,t",
    "tridiagonal_solve": "n,n,n,nk->nk",
}
TRIANGULAR = (("ij", "ik", "jk"), ("ij", "kj", "ki"), ("ji", "ik", "jk"), ("ji", "kj", "ki"))
"""(matrix, known, solved) of a triangular solve: from the left or the right, transposed or not."""
_COUNTS = ("int32", "int64")
_WITH_COUNTS = frozenset(("lu", "lu_pivots_to_permutation", "geqp3", "tridiagonal"))


class Linalg(Op):
    """What only such a function knows has no name."""

    kind = "linalg"
    attributes = frozenset(("along",))
    factorizes = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 1)
        every = [dim for operand in node.inputs for dim in operand.type.dims]
        along = listed(node, "along", every, "the operands")
        if node.fn == "fft":
            return [_transformed(node, along)]
        if node.fn == "solve":
            return _solved(node)
        if node.fn == "triangular_solve":
            operands(node, 2, 2)
            answers = [_formed(node, [matrix, known], [solved]) for matrix, known, solved in TRIANGULAR]
            fitting = (each for each in answers if all(map(_fits, each, node.outputs)))
            return next(fitting, answers[0])
        must(node.fn in FORMS, Piece("op"), errors.rule_needs("a known function"))
        taken, given = (side.split(",") for side in FORMS[node.fn].split("->"))
        operands(node, len(taken), len(taken))
        return _formed(node, taken, given)

    def spread(self, node: Node) -> Sequence[Spread] | None:
        """Matrices are whole; what there are many of may be sharded."""
        if replicated(node):
            return all_whole(node)
        if node.fn == "fft":
            rank = len(node.inputs[0].type.dims)
            batch = rank - len(node.dims("along"))
            labels: Labels = [position if position < batch else None for position in range(rank)]
            return [Walked(node, [labels]).result(labels, pending(node, ((0,),)))]
        if node.fn == "solve":
            return None
        taken, given = (
            (TRIANGULAR[0][:2], TRIANGULAR[0][2:])
            if node.fn == "triangular_solve"
            else (side.split(",") for side in FORMS[node.fn].split("->"))
        )
        batch = len(node.inputs[0].type.dims) - len(taken[0])
        rows: list[Labels] = [[*range(batch), *[None] * len(letters)] for letters in taken]
        walked, due = Walked(node, rows), nothing_pending(node)
        made = given[: len(node.outputs)]
        return [walked.result([*range(batch), *[None] * len(letters)], due) for letters in made]

    def blocked(self, node: Node) -> Names:
        made = sorted(names_of(node.outputs) - names_of(node.value_inputs))
        return tuple(dict.fromkeys((*node.names("along"), *made)))

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Some function of the whole matrices, by itself for each place of the batch."""
        batch = _batch(node)
        lead = tuple(arrays[0].shape[:batch])
        results = [((*lead, *value.type.shape[batch:]), ring_dtype(value.type.dtype)) for value in node.outputs]
        return digest(arrays, results, batch, node.fn)


def _batch(node: Node) -> int:
    """How many dims in front are the batch's."""
    rank = len(node.inputs[0].type.dims)
    if node.fn == "fft":
        return rank - len(params_of(node)["fft_lengths"])
    if node.fn == "solve":
        return 0
    taken = "ij" if node.fn == "triangular_solve" else FORMS[node.fn].split("->")[0].split(",")[0]
    return rank - len(taken)


def _fits(expected: Expected, value: Value) -> bool:
    return expected.fits(value.type)


def _transformed(node: Node, along: Sequence[Dim]) -> Expected:
    (operand,) = operands(node, 1, 1)
    dims = operand.type.dims
    tail = dims[len(dims) - len(along) :]
    must(
        all(map(same, tail, along)), Piece("attribute", key="along"), errors.rule_needs("the last dims of the operand")
    )
    out: list[Slot] = list(dims)
    found = node.outputs[0].type.dims if node.outputs else ()
    # Between real and complex numbers the last dim that is transformed changes its size.
    if len(found) == len(dims) and found and found[-1].size != dims[-1].size:
        out[-1] = Hole()
    return Expected(related(operand.type.dtype), tuple(out))


def _solved(node: Node) -> list[Expected]:
    """The solution has the shape of what is known, which are the last operands."""
    known = node.inputs[len(node.inputs) - len(node.outputs) :]
    return [Expected((b.type.dtype,), tuple([Hole(dim.size) for dim in b.type.dims])) for b in known]


def _formed(node: Node, taken: Sequence[str], given: Sequence[str]) -> list[Expected]:
    known: dict[tuple[str, int], Dim] = {}
    first = node.inputs[0].type.dims
    must(len(first) >= len(taken[0]), Piece("operand"), errors.rule_needs(f"at least {len(taken[0])} dims"))
    batch = first[: len(first) - len(taken[0])]
    for i, (operand, letters) in enumerate(zip(node.inputs, taken, strict=True)):
        dims = operand.type.dims
        fits = len(dims) == len(batch) + len(letters) and all(
            a.size == b.size for a, b in zip(batch, dims, strict=False)
        )
        must(fits, Piece("operand", i), errors.operand_rank(str(operand.type), f"{len(batch) + len(letters)} dims"))
        for dim, letter in zip(dims[len(batch) :], letters, strict=True):
            known.setdefault((letter, dim.size), dim)
    dtype = node.inputs[0].type.dtype
    dtypes = (*related(dtype), *_COUNTS) if node.fn in _WITH_COUNTS else related(dtype)
    answers: list[Expected] = []
    # Eigenvectors and singular vectors are results only where they were asked for.
    for i, letters in enumerate(given[: max(1, len(node.outputs))]):
        out = node.outputs[i].type.dims if i < len(node.outputs) else ()
        made: list[Slot] = list(batch)
        for letter, found in zip(letters, out[len(batch) :], strict=False):
            dim = known.get((letter, found.size))
            # A matrix over one space has it on two sides, of which one keeps the name.
            twice = dim is not None and has([each for each in made if isinstance(each, Dim)], dim)
            made.append(dim if dim is not None and not twice else Hole(found.size))
        made += [Hole()] * (len(batch) + len(letters) - len(made))
        answers.append(Expected(dtypes, tuple(made)))
    return answers
