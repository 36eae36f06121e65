"""The wording of everything that can be wrong with a mixture."""

from __future__ import annotations

from collections.abc import Iterable

from levanter.errors import UserError, suggestion


def no_sources() -> UserError:
    return UserError(
        "the mixture has no sources (data.sources): name at least one, such as\n\n"
        "data:\n  type: mixture\n  sources:\n    books: {type: text, paths: [books]}\n"
        "    code: {type: jsonl, paths: [code], column: content}\n  weights: {books: 1, code: 3}"
    )


def nested(name: str) -> UserError:
    return UserError(
        f"data.sources.{name} is a mixture: name its sources beside the others, with the weights they have"
    )


def other_tokenizer(name: str, own: str, outer: str) -> UserError:
    return UserError(
        f"data.sources.{name}.tokenizer is '{own}' and data.tokenizer '{outer}': one model has one tokenizer; "
        "set data.tokenizer alone"
    )


def other_packing(name: str, own: str, outer: str) -> UserError:
    return UserError(
        f"data.sources.{name}.packing is {own} and data.packing {outer}: a batch has one kind of rows; "
        "set data.packing alone"
    )


def unknown_source(where: str, name: str, known: Iterable[str]) -> UserError:
    return UserError(f"{where} names '{name}', which is none of data.sources: {suggestion(name, known)}")


def bad_weight(where: str, weight: float) -> UserError:
    return UserError(f"{where} is {weight}: it must be a finite number, at least 0")


def no_weight(where: str) -> UserError:
    return UserError(f"{where} gives no source a weight above 0: give one to at least one of them")


def stages_in_disorder(where: str, step: int, before: int) -> UserError:
    return UserError(
        f"{where}.from_step is {step}, and the stage before begins at {before}: put the stages in the order of their "
        "steps, and the first weights into data.weights"
    )
