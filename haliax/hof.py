"""The loops and maps of `haliax.control`, under the name that published code imports."""

from haliax.checkpointing import ScanCheckpointPolicy as ScanCheckpointPolicy
from haliax.control import fold as fold
from haliax.control import map as map
from haliax.control import scan as scan
from haliax.control import vmap as vmap
