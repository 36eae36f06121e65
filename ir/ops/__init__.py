"""Op kinds: a file each, which holds all that the library knows of the kind."""

from ir.ops.grouping import factors, groups
from ir.ops.linalg import FORMS
from ir.ops.op import Feed, Mismatch, Names, Op, Place
from ir.ops.registry import OPS, entered, op_of
from ir.ops.rule import Expected, Fault, Piece
from ir.ops.structured import body_param

__all__ = [
    "FORMS",
    "OPS",
    "Expected",
    "Fault",
    "Feed",
    "Mismatch",
    "Names",
    "Op",
    "Piece",
    "Place",
    "body_param",
    "entered",
    "factors",
    "groups",
    "op_of",
]
