"""The named-axis IR: a training step as a graph whose every dimension has a name."""

from ir.diff import Changes, changes
from ir.errors import ParseError
from ir.graph import Constant, Graph, Node, Source, Value
from ir.parser import parse
from ir.printer import print_graph
from ir.tracing import trace
from ir.types import Dim, TensorType
from ir.verify import MalformedGraph, verify

__all__ = [
    "Changes",
    "Constant",
    "Dim",
    "Graph",
    "MalformedGraph",
    "Node",
    "ParseError",
    "Source",
    "TensorType",
    "Value",
    "changes",
    "parse",
    "print_graph",
    "trace",
    "verify",
]
