"""Published `haliax._src.dot`."""

from haliax.ops.contract import dot as dot
