"""Dtypes by family, as far as the rules of ops need them."""

_REAL = {"complex64": "float32", "complex128": "float64"}
_COMPLEX = {"float32": "complex64", "float64": "complex128", "float16": "complex64", "bfloat16": "complex64"}


def is_complex(dtype: str) -> bool:
    return dtype.startswith("complex")


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat")) and dtype != "float0"


def is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def is_key(dtype: str) -> bool:
    return dtype.startswith("key<")


def real_of(dtype: str) -> str:
    """The dtype of the real part."""
    return _REAL.get(dtype, dtype)


def complex_of(dtype: str) -> str:
    """The dtype of a complex number with such parts."""
    return _COMPLEX.get(dtype, dtype)


def related(dtype: str) -> tuple[str, ...]:
    """The dtype, that of its parts, and that of complex numbers of it."""
    return tuple(dict.fromkeys((dtype, real_of(dtype), complex_of(dtype))))


def family(dtype: str) -> int:
    """0 for bool and what is no number, 1 for integers, 2 for floats, 3 for complex numbers."""
    return 3 if is_complex(dtype) else 2 if is_float(dtype) else 1 if is_integer(dtype) else 0
