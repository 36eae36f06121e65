"""The wording of every way in which a step of the user's cannot be found, or has no arguments or names."""

from __future__ import annotations

from collections.abc import Iterable

from levanter.errors import UserError


def bad_target(target: str) -> UserError:
    return UserError(f"bad step `{target}`: write MODULE:FUNCTION, such as my_model.train:step or my_model.py:step")


def not_a_step(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` is a {kind}: name the function that is the step, or one that returns it")


def no_step_and_arguments(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` takes no arguments and returned a {kind}: return (step, arguments)")


def no_arguments(target: str, wanted: str) -> UserError:
    return UserError(
        f"no arguments for `{target}`: define `{wanted}` beside it, a tuple of shapes or a function that returns one, "
        "or name them with --arguments MODULE:NAME"
    )


def call_failed(target: str, error: Exception) -> UserError:
    return UserError(f"calling `{target}` failed: {type(error).__name__}: {error} (--debug shows where)")


def arguments_no_tuple(target: str, kind: str) -> UserError:
    return UserError(f"the arguments of `{target}` are a {kind}: give a tuple, one element for each argument")


def no_names(target: str, source: str, wanted: Iterable[str]) -> UserError:
    listed = " or ".join(f"`{name}`" for name in wanted)
    return UserError(f"no names for `{target}` in `{source}`: define {listed} in it, or name them as MODULE:NAME")


def no_naming(source: str, kind: str) -> UserError:
    return UserError(
        f"the names of `{source}` are a {kind}: give a mapping from path patterns to names, such as "
        '{"*.mlp.up.kernel": "embed mlp"}, or a function of path and shape'
    )
