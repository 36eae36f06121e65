"""Published `haliax._src.util`."""

from haliax.axis import ensure_tuple as ensure_tuple
from haliax.axis import index_where as index_where
from haliax.compat import IdentityMap as IdentityMap

py_slice = slice_t = slice
