"""`levanter generate`: text that a trained model continues prompts with."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from levanter.cli import errors
from levanter.cli.options import OVERRIDES, debug, json_option, load_model, mesh_option

if TYPE_CHECKING:
    from levanter.inference.text import Continued


@click.command("generate", context_settings=OVERRIDES)
@click.argument("source", metavar="RUN_DIR_OR_HF_PATH")
@click.option("--prompt", "prompts", metavar="TEXT", multiple=True, help="What to continue; may be given again.")
@click.option("--prompts", "file", metavar="FILE", help="More prompts, one in each line; - reads the standard input.")
@click.option("--max-tokens", metavar="N", type=int, default=64, show_default=True, help="Most tokens for each prompt.")
@click.option(
    "--temperature", metavar="T", type=float, default=0.8, show_default=True, help="Scores are divided by it."
)
@click.option(
    "--top-k", metavar="K", type=int, default=40, show_default=True, help="Draw among the K likeliest; 0: all."
)
@click.option("--top-p", metavar="P", type=float, help="Draw among the fewest tokens that have probability P together.")
@click.option("--greedy", is_flag=True, help="Take the likeliest token each time.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Fixes what is drawn.")
@click.option("--ignore-end", is_flag=True, help="Go on where the model ends its text.")
@click.option("--batch-size", metavar="N", type=int, default=16, show_default=True, help="Prompts read at once.")
@mesh_option
@json_option
@debug
@click.pass_context
def generate_command(
    ctx: click.Context,
    source: str,
    prompts: tuple[str, ...],
    file: str | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float | None,
    greedy: bool,
    seed: int,
    ignore_end: bool,
    batch_size: int,
    mesh: str | None,
    as_json: bool,
) -> None:
    """Continue prompts with a trained model.

    RUN_DIR_OR_HF_PATH is a run directory or one of its checkpoints, or a Hugging Face model, a folder or an id. The
    same seed gives the same text, whatever other prompts there are. Any field of the model's configuration can be
    set by its dotted name, such as --model.compute_dtype bfloat16.
    """
    texts = [*prompts, *_lines(file)]
    if not texts:
        raise errors.no_prompt()
    # What libraries print on the way must not end up in front of the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.inference.sampling import GREEDY, Sampling
        from levanter.inference.text import Request, continue_texts

        how = GREEDY if greedy else Sampling(temperature, top_k or None, top_p)
        request = Request(how, max_tokens, seed, stops=not ignore_end, batch_size=batch_size)
        loaded = load_model(ctx, source, mesh, min(batch_size, len(texts)))
        results = continue_texts(loaded, texts, request, notify=lambda line: print(line, file=sys.stderr))
    _print(source, results, as_json)


def _lines(file: str | None) -> list[str]:
    """The lines of a file of prompts; empty ones are left out."""
    if file is None:
        return []
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.cannot_read(file, error) from None
    return [line for line in text.splitlines() if line]


def _print(source: str, results: list[Continued], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": source, "results": [asdict(each) for each in results]}, indent=2))
        return
    for number, each in enumerate(results):
        print(("\n---\n\n" if number else "") + each.prompt + each.text)
