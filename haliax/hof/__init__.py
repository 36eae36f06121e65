"""The loops and maps of `haliax.hof.loops`, under the name that published code imports."""

from haliax.hof import gradients as gradients
from haliax.hof.checkpointing import ScanCheckpointPolicy as ScanCheckpointPolicy
from haliax.hof.loops import fold as fold
from haliax.hof.loops import map as map
from haliax.hof.loops import scan as scan
from haliax.hof.loops import vmap as vmap
