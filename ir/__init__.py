"""The named-axis IR: a training step as a graph whose every dimension has a name."""

from ir.analysis.diff import Changes, changes
from ir.analysis.verify import MalformedGraph, verify
from ir.errors import NamingError, ParseError, TooDeep
from ir.graph import Constant, Graph, Node, Source, Value
from ir.staging.naming import Naming, unnamed
from ir.staging.trace import trace
from ir.text.parse import parse
from ir.text.print import print_graph
from ir.types import Dim, TensorType

__all__ = [
    "Changes",
    "Constant",
    "Dim",
    "Graph",
    "MalformedGraph",
    "Naming",
    "NamingError",
    "Node",
    "ParseError",
    "Source",
    "TensorType",
    "TooDeep",
    "Value",
    "changes",
    "parse",
    "print_graph",
    "trace",
    "unnamed",
    "verify",
]
