"""Sets what a plan predicts beside what the compiler made."""

from levanter.compiler.verify.compare import Difference, Explanation, compare
from levanter.compiler.verify.hlo import CompiledCollective, collectives
from levanter.compiler.verify.isolate import CompiledProgram, answer_in_child, compile_in_child
from levanter.compiler.verify.kept import keeping

__all__ = [
    "CompiledCollective",
    "CompiledProgram",
    "Difference",
    "Explanation",
    "answer_in_child",
    "collectives",
    "compare",
    "compile_in_child",
    "keeping",
]
