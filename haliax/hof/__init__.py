"""The loops and maps of `haliax.hof.loops`, under the name that published code imports."""

from haliax.hof.checkpointing import ScanCheckpointPolicy as ScanCheckpointPolicy
from haliax.hof.gradients import enable_jax_grad as enable_jax_grad
from haliax.hof.gradients import grad as grad
from haliax.hof.gradients import value_and_grad as value_and_grad
from haliax.hof.loops import fold as fold
from haliax.hof.loops import map as map
from haliax.hof.loops import scan as scan
from haliax.hof.loops import vmap as vmap
