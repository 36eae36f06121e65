"""`NamedArray` and the functions of its axes, under the name that published code imports."""

from haliax.align import _broadcast_order as _broadcast_order
from haliax.align import broadcast_arrays as broadcast_arrays
from haliax.align import broadcast_arrays_and_return_axes as broadcast_arrays_and_return_axes
from haliax.align import broadcast_axis as broadcast_axis
from haliax.align import broadcast_to as broadcast_to
from haliax.array import NamedArray as NamedArray
from haliax.array import are_shape_checks_enabled as are_shape_checks_enabled
from haliax.array import check_shape as check_shape
from haliax.array import enable_shape_checks as enable_shape_checks
from haliax.array import named as named
from haliax.array_axes import NamedArrayAxes as NamedArrayAxes
from haliax.array_axes import NamedArrayAxesSpec as NamedArrayAxesSpec
from haliax.array_axes import NamedArrayMeta as NamedArrayMeta
from haliax.indexing import index as index
from haliax.indexing import slice as slice
from haliax.indexing import take as take
from haliax.padding import roll as roll
from haliax.shape import flatten as flatten
from haliax.shape import flatten_all_axes_but as flatten_all_axes_but
from haliax.shape import flatten_axes as flatten_axes
from haliax.shape import ravel as ravel
from haliax.shape import rename as rename
from haliax.shape import split as split
from haliax.shape import unbind as unbind
from haliax.shape import unflatten_axis as unflatten_axis
from haliax.updating import updated_slice as updated_slice
