"""The wording of every error about configuration: what is wrong, where, and the fix.

A key is named as its user wrote it: `optimizer.beta1` with a file and a line, or `--optimizer.beta1` from the command
line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from levanter.errors import UserError, suggestion


def unknown_key(name: str, where: str, fix: str) -> UserError:
    """`name` comes as its user wrote it; `fix` says which name was meant or which there are."""
    kind = "option" if name.startswith("--") else "key"
    return UserError(f"unknown {kind} `{name}`{_at(where)}: {fix}")


def bad_value(name: str, where: str, expected: str, got: str) -> UserError:
    return UserError(f"bad value for `{name}`{_at(where)}: expected {expected}, got `{got}`")


def empty_text(name: str, where: str, may_be_null: bool) -> UserError:
    fix = "give it a value, write null, or leave it out" if may_be_null else "give it a value, or leave it out"
    return UserError(f"`{name}`{_at(where)} is empty: {fix}")


def missing_key(section: str, key: str, where: str) -> UserError:
    return UserError(f"`{section}` has no `{key}`{_at(where)}: it has no default, so set `{section}.{key}`")


def unknown_choice(name: str, where: str, value: str, known: Iterable[str]) -> UserError:
    return UserError(f"unknown value `{value}` for `{name}`{_at(where)}: {suggestion(value, known)}")


def option_without_value(option: str) -> UserError:
    return UserError(f"option `{option}` has no value: write `{option} VALUE` or `{option}=VALUE`")


def not_an_option(argument: str) -> UserError:
    return UserError(f"unexpected argument `{argument}`: a field is set as `--section.field VALUE`")


def unknown_model(name: str, known: Sequence[str]) -> UserError:
    return UserError(f"unknown model `{name}`: {suggestion(name, known)} (`--config PATH` takes any file)")


def model_and_config() -> UserError:
    return UserError("both --model and --config are given: each names the whole configuration, so keep one of them")


def missing_file(path: str, where: str, near: str | None) -> UserError:
    fix = f"did you mean `{near}`?" if near else "check the path, or name a model with --model"
    return UserError(f"no config file `{path}`{_at(where)}: {fix}")


def unreadable_file(path: str, reason: str) -> UserError:
    return UserError(f"cannot read config file `{path}`: {reason}")


def invalid_yaml(where: str, problem: str) -> UserError:
    return UserError(f"not valid YAML ({where}): {problem}")


def not_a_mapping(path: str) -> UserError:
    return UserError(f"config file `{path}` does not hold keys and values: write lines such as `model:`")


def duplicate_key(name: str, where: str, first: str) -> UserError:
    return UserError(f"key `{name}` is given twice ({where}, first at {first}): remove one of them")


def recursive_alias(where: str) -> UserError:
    return UserError(f"a YAML alias refers to itself ({where}): write the value out")


def bad_extends(where: str) -> UserError:
    return UserError(f"`extends` is not a file name ({where}): write `extends: other.yaml`, a path beside this file")


def extends_circle(files: Sequence[str]) -> UserError:
    return UserError(f"`extends` goes in a circle ({' -> '.join(files)}): remove one of them")


def moved_value(old: str, where: str, value: object, new: str) -> UserError:
    return UserError(
        f"bad value `{value}` for `{old}`{_at(where)}, which has become `{new}`: set that to true or false"
    )


def plan_of_another_mesh(source: str, planned: str, mesh: str) -> UserError:
    return UserError(
        f"trainer.plan: {source} is a plan for the mesh {planned}, and trainer.mesh is {mesh}: leave out --mesh, or "
        f"give --trainer.plan null and let `levanter compile --mesh {mesh} --save-plan FILE` plan for this one"
    )


def in_field(name: str, error: UserError) -> UserError:
    return UserError(f"{name}: {error}")


def own_file_missing(name: str, where: str, file: str, option: str) -> UserError:
    return UserError(f"`{name}`{_at(where)}: no file `{file}`: check the path, or say where it is now with `{option}`")


def in_place(name: str, where: str, error: UserError) -> UserError:
    """What is wrong with a component of the user's own, which the key `name` names."""
    return UserError(f"`{name}`{_at(where)}: {error}")


def _at(where: str) -> str:
    return f" ({where})" if where else ""


def elastic_remat(source: str | None) -> UserError:
    """`source` is the file of a plan that says what is computed again."""
    fix = "set model.gradient_checkpointing to true or false"
    why = "the bits of an elastic run depend on what the backward pass computes again, and are the same under any plan"
    if source is None:
        return UserError(f"model.gradient_checkpointing: null lets each plan choose, but {why}: {fix}")
    return UserError(f"{source}: `remat`: {why}: leave it out, and {fix}")


def elastic_microbatches(source: str, planned: int, configured: int | None) -> UserError:
    return UserError(
        f"{source}: `microbatches` is {planned}, and trainer.microbatches is {configured}: the bits of an elastic run "
        "depend on it, and are the same under any plan: leave it out of the plan, or set trainer.microbatches to "
        f"{planned} for the whole run"
    )


def elastic_moments(source: str, planned: str, configured: str | None) -> UserError:
    """`source` is the file of a plan that says what moments are kept in; without one the config leaves it open."""
    return _elastic_dtype("moments", "optimizer.moments_dtype", source, planned, configured)


def elastic_gradients(source: str, planned: str, configured: str | None) -> UserError:
    """The same of gradients."""
    return _elastic_dtype("gradients", "trainer.gradients_dtype", source, planned, configured)


def _elastic_dtype(name: str, field: str, source: str, planned: str, configured: str | None) -> UserError:
    why = "the bits of an elastic run depend on it, and are the same under any plan"
    if not source:
        return UserError(f"{field}: null lets each plan choose, but {why}: set it to float32 or bfloat16")
    return UserError(
        f"{source}: `{name}` is {planned}, and {field} is {configured}: {why}: leave it out of the plan, or set "
        f"{field} to {planned} for the whole run"
    )
