"""Private modules of the published library that real code imports from: each re-exports what it has there."""

from haliax._src import dot as dot
from haliax._src import einsum as einsum
from haliax._src import rearrange as rearrange
from haliax._src import scan as scan
from haliax._src import state_dict as state_dict
from haliax._src import util as util
