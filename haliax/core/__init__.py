"""`NamedArray` and the functions of its axes, under the name that published code imports."""

from haliax.core.annotations import NamedArrayAxes as NamedArrayAxes
from haliax.core.annotations import NamedArrayAxesSpec as NamedArrayAxesSpec
from haliax.core.annotations import NamedArrayMeta as NamedArrayMeta
from haliax.core.array import NamedArray as NamedArray
from haliax.core.array import are_shape_checks_enabled as are_shape_checks_enabled
from haliax.core.array import check_shape as check_shape
from haliax.core.array import enable_shape_checks as enable_shape_checks
from haliax.core.array import named as named
from haliax.ops.align import _broadcast_order as _broadcast_order
from haliax.ops.align import broadcast_arrays as broadcast_arrays
from haliax.ops.align import broadcast_arrays_and_return_axes as broadcast_arrays_and_return_axes
from haliax.ops.align import broadcast_axis as broadcast_axis
from haliax.ops.align import broadcast_to as broadcast_to
from haliax.ops.indexing import index as index
from haliax.ops.indexing import slice as slice
from haliax.ops.indexing import take as take
from haliax.ops.padding import roll as roll
from haliax.ops.shape import flatten as flatten
from haliax.ops.shape import flatten_all_axes_but as flatten_all_axes_but
from haliax.ops.shape import flatten_axes as flatten_axes
from haliax.ops.shape import ravel as ravel
from haliax.ops.shape import rename as rename
from haliax.ops.shape import split as split
from haliax.ops.shape import unbind as unbind
from haliax.ops.shape import unflatten_axis as unflatten_axis
from haliax.ops.updating import updated_slice as updated_slice
