"""Published `haliax._src.scan`."""

from haliax.compat import ScanCheckpointSpec as ScanCheckpointSpec
from haliax.hof.checkpointing import ScanCheckpointPolicy as ScanCheckpointPolicy
from haliax.hof.loops import fold as fold
from haliax.hof.loops import map as map
from haliax.hof.loops import scan as scan
