"""Miscellaneous functions, under the name that published code imports."""

from haliax.array import raw_array_or_scalar as raw_array_or_scalar
from haliax.elementwise import clip as clip
from haliax.elementwise import isclose as isclose
from haliax.elementwise import where as where
from haliax.padding import pad as pad
from haliax.padding import pad_left as pad_left
from haliax.padding import tril as tril
from haliax.padding import triu as triu
from haliax.reduce import trace as trace
from haliax.searching import allclose as allclose
from haliax.searching import array_equal as array_equal
from haliax.searching import array_equiv as array_equiv
from haliax.searching import bincount as bincount
from haliax.searching import nonzero as nonzero
from haliax.searching import packbits as packbits
from haliax.searching import searchsorted as searchsorted
from haliax.searching import unique as unique
from haliax.searching import unique_all as unique_all
from haliax.searching import unique_counts as unique_counts
from haliax.searching import unique_inverse as unique_inverse
from haliax.searching import unique_values as unique_values
from haliax.searching import unpackbits as unpackbits
