"""Miscellaneous functions, under the name that published code imports."""

from haliax.core.array import raw_array_or_scalar as raw_array_or_scalar
from haliax.ops import methods as methods  # attaches them to NamedArray
from haliax.ops.elementwise import clip as clip
from haliax.ops.elementwise import isclose as isclose
from haliax.ops.elementwise import where as where
from haliax.ops.padding import pad as pad
from haliax.ops.padding import pad_left as pad_left
from haliax.ops.padding import tril as tril
from haliax.ops.padding import triu as triu
from haliax.ops.reduce import trace as trace
from haliax.ops.searching import allclose as allclose
from haliax.ops.searching import array_equal as array_equal
from haliax.ops.searching import array_equiv as array_equiv
from haliax.ops.searching import bincount as bincount
from haliax.ops.searching import nonzero as nonzero
from haliax.ops.searching import packbits as packbits
from haliax.ops.searching import searchsorted as searchsorted
from haliax.ops.searching import unique as unique
from haliax.ops.searching import unique_all as unique_all
from haliax.ops.searching import unique_counts as unique_counts
from haliax.ops.searching import unique_inverse as unique_inverse
from haliax.ops.searching import unique_values as unique_values
from haliax.ops.searching import unpackbits as unpackbits
