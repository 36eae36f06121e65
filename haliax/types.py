"""The types that annotations are written in, under the name that published code imports."""

from haliax.typing import DTypeLike as DTypeLike
from haliax.typing import IntScalar as IntScalar
from haliax.typing import PrecisionLike as PrecisionLike
from haliax.typing import Scalar as Scalar
