"""Sets what a plan predicts beside what the compiler made."""

from levanter.verify.compare import Difference, Explanation, compare
from levanter.verify.hlo import CompiledCollective, collectives
from levanter.verify.isolate import CompiledProgram, compile_in_child

__all__ = [
    "CompiledCollective",
    "CompiledProgram",
    "Difference",
    "Explanation",
    "collectives",
    "compare",
    "compile_in_child",
]
