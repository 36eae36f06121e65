"""The wording of everything that can be wrong with a run's text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from levanter.errors import UserError, WorkFailed, suggestion


def no_paths() -> UserError:
    return UserError("no text is named (data.paths): give at least one file, such as --data.paths '[books/*.txt]'")


def no_such_file(field: str, path: str) -> UserError:
    return UserError(f"no such file: '{path}' (data.{field}, from the working directory {Path.cwd()}): check the path")


def no_match(field: str, pattern: str) -> UserError:
    return UserError(
        f"no file matches '{pattern}' (data.{field}, from the working directory {Path.cwd()}): check the pattern"
    )


def nothing_in_folder(field: str, path: str, endings: Iterable[str]) -> UserError:
    return UserError(
        f"the folder '{path}' has no file that ends in {' or '.join(endings)} (data.{field}): "
        f"name those that are meant by a pattern, such as {path.rstrip('/')}/**/*"
    )


def no_remote_file(field: str, url: str) -> UserError:
    return UserError(f"there is nothing at '{url}' (data.{field}): check the URL and what gives access to it")


def rows_as_text(field: str, path: str, kind: str) -> UserError:
    return UserError(
        f"the file '{path}' has rows and is not plain text (data.{field}): read it with --data.type {kind}, "
        "which takes the text from one column of it (data.column)"
    )


def file_changed(field: str, path: str) -> UserError:
    return UserError(f"the file '{path}' changed while it was read (data.{field}): run again when it is written")


def text_changed(source: str) -> UserError:
    return UserError(
        f"the text of {source} has changed while it was tokenized and trained on (data.shuffle_block): start a new run "
        "with --run-dir once it is written"
    )


def builder_failed(source: str, code: int) -> WorkFailed:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return WorkFailed(
        f"the process that tokenizes {source} {how}; rerun the same command to resume from the last checkpoint"
    )


def no_blocks() -> UserError:
    return UserError("data.shuffle_block is for text: conversations are tokenized before training (data.type chat)")


def waiting_for_tokens(source: str, rows: int) -> str:
    return f"waiting until the first {rows:,} sequences of {source} are tokenized (data.shuffle_block)"


def no_heldout_in_block(source: str, block: int, tokens: int, needed: int) -> UserError:
    return UserError(
        f"the held-out text beside the first {block:,} sequences of {source} is too short (data.shuffle_block): it has "
        f"{tokens} tokens in whole documents and one sequence needs {needed}: name held-out text by itself with "
        "data.heldout_paths, or set a larger block or a larger data.heldout_fraction"
    )


def bad_row(where: str, field: str, reason: str) -> UserError:
    return UserError(
        f"{where}: {reason} (data.{field}): correct the row, or leave bad rows out with --data.bad_rows skip"
    )


def rows_skipped(count: int, source: str, first: str) -> str:
    if count == 1:
        return f"1 bad row of {source} is left out (data.bad_rows skip): {first}"
    return f"{count:,} bad rows of {source} are left out (data.bad_rows skip); the first: {first}"


def unknown_column_of(where: str, column: str, known: Iterable[str]) -> UserError:
    return UserError(f"{where} has no column '{column}' (data.column): {suggestion(column, known)}")


def tokenizing(source: str, folder: Path) -> str:
    return f"tokenizing {source} (once; kept in {folder})"


def cache_damaged(folder: Path, problem: str) -> str:
    return f"the token cache {folder} is damaged ({problem}): building it again"


def text_is_gone(source: str, day: str) -> str:
    return f"the text of {source} is gone or out of reach: using the tokens that were made of it on {day}"


def file_empty(field: str, path: str) -> UserError:
    return UserError(f"the file '{path}' is empty (data.{field}): take it off the list or give it text")


def file_not_text(field: str, path: str, encoding: str, offset: int) -> UserError:
    return UserError(
        f"the file '{path}' is not {encoding} text (data.{field}, byte {offset}): "
        "convert it, for example with iconv -f latin1 -t utf-8"
    )


def file_unreadable(field: str, path: str, reason: str) -> UserError:
    return UserError(f"cannot read the file '{path}' (data.{field}): {reason}")


def no_conversation(where: str, reason: str) -> UserError:
    return UserError(
        f"{where} is not a conversation: {reason}; write a line as "
        '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]} '
        'or {"prompt": "…", "completion": "…"}'
    )


def no_conversations(side: str, source: str) -> UserError:
    return UserError(
        f"no conversation is left for the {side} side of {source}: give more of them, "
        "name other files with data.heldout_paths, or set another data.heldout_fraction"
    )


def template_rewrites(tokenizer: str, where: str) -> UserError:
    return UserError(
        f"the chat template of the tokenizer '{tokenizer}' writes the conversation in {where} otherwise once more is "
        "said, so which tokens are an answer cannot be told: split it, so that each line ends with the answer to learn"
    )


def dataset_unavailable(dataset: str, name: str | None, reason: str) -> UserError:
    return UserError(
        f"cannot load the data set {_dataset(dataset, name)} (data.id, data.name): {reason}; "
        "check the name and the network, or use local text: --data.type text --data.paths '[FILE]'"
    )


def no_split(dataset: str, name: str | None, split: str, heldout: bool, known: Iterable[str]) -> UserError:
    field = "heldout_split" if heldout else "train_split"
    fix = "; --data.heldout_split null holds out a part of the training split" if heldout else ""
    return UserError(
        f"the data set {_dataset(dataset, name)} has no split '{split}' (data.{field}): {suggestion(split, known)}{fix}"
    )


def dataset_broken(dataset: str, name: str | None, reason: str) -> UserError:
    return UserError(
        f"a file of the data set {_dataset(dataset, name)} cannot be read (data.id, data.name): {reason}; "
        "--data.type jsonl reads JSON lines and names the line that is broken"
    )


def _dataset(dataset: str, name: str | None) -> str:
    return f"'{dataset}'" if name is None else f"'{dataset}', configuration '{name}'"


def unknown_column(column: str, known: Iterable[str]) -> UserError:
    return UserError(f"the data set has no column '{column}' (data.column): {suggestion(column, known)}")


def corpus_empty(source: str) -> UserError:
    return UserError(f"there is no text in {source} (data): name a source that has some")


def too_short(side: str, source: str, tokens: int, seq_len: int) -> UserError:
    fix = {
        "training": "use more text or a smaller model.seq_len",
        "held-out": "use more text, a larger data.heldout_fraction or a smaller model.seq_len",
    }[side]
    return UserError(
        f"the {side} text is too short ({source}): it has {tokens} tokens and one sequence needs {seq_len + 1} "
        f"({seq_len} and a last target): {fix}"
    )


def tokenizer_unavailable(name: str, reason: str) -> UserError:
    return UserError(
        f"cannot load the tokenizer '{name}' (data.tokenizer): {reason}; "
        "use gpt2, a local tokenizer folder, or the name of one on the Hugging Face hub"
    )


def no_chat_template(name: str) -> UserError:
    return UserError(
        f"the tokenizer '{name}' has no chat template: use that of a model tuned for chat (data.tokenizer), or put a "
        "chat_template.jinja into its folder"
    )


def chat_refused(name: str, reason: str) -> UserError:
    return UserError(
        f"the chat template of the tokenizer '{name}' refuses the conversation: {reason.rstrip('.')}; "
        "each message needs a `role` that it knows and a `content`"
    )


def cache_unwritable(folder: Path, reason: str) -> UserError:
    return UserError(
        f"cannot write the token cache in {folder}: {reason}; choose another folder with --data.cache_dir FOLDER"
    )


def no_such_corpus(identity: str, cache_dir: Path) -> UserError:
    return UserError(
        f"no corpus in {cache_dir} has the identity '{identity}': `levanter data ls` lists those there are"
    )


def damaged_corpora(identities: Iterable[str]) -> WorkFailed:
    return WorkFailed(
        f"damaged in the token cache: {', '.join(identities)}; the next run that needs such a corpus makes it again "
        "from its text"
    )
