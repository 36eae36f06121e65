"""`levanter eval`: how well a trained model predicts text, and what it answers."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from levanter.cli.options import OVERRIDES, debug, json_option, load_model, mesh_option


@click.command("eval", context_settings=OVERRIDES)
@click.argument("source", metavar="RUN_DIR_OR_HF_PATH")
@click.option("--domain", "domains", metavar="NAME=PATH", multiple=True, help="Text files, or a pattern of them.")
@click.option("--split", type=click.Choice(["heldout", "all"]), help="Of a source. Left out: heldout of the run's own.")
@click.option(
    "--length", metavar="N", type=int, help="Tokens that the model reads at once. Left out: 2048, or all that it can."
)
@click.option("--stride", metavar="N", type=int, help="Tokens that each window asks for. Left out: a whole window.")
@click.option("--multiple-choice", "questions", metavar="FILE", multiple=True, help="Questions, JSONL.")
@click.option("--tasks", metavar="NAMES", help="Tasks of lm-eval, with commas (the extra `eval`).")
@click.option("--limit", metavar="N", type=int, help="Questions of each task of lm-eval; left out: all.")
@click.option("--batch-size", metavar="N", type=int, default=8, show_default=True, help="Texts read at once.")
@mesh_option
@json_option
@debug
@click.pass_context
def eval_command(
    ctx: click.Context,
    source: str,
    domains: tuple[str, ...],
    split: str | None,
    length: int | None,
    stride: int | None,
    questions: tuple[str, ...],
    tasks: str | None,
    limit: int | None,
    batch_size: int,
    mesh: str | None,
    as_json: bool,
) -> None:
    """Tell how good a trained model is.

    Perplexity by domain, multiple choice, and tasks of lm-eval.

    RUN_DIR_OR_HF_PATH is a run directory or one of its checkpoints, or a Hugging Face model. The text is the run's own
    held-out text, or any source: --data.type text --data.paths '[a.txt, b.txt]', each file a domain.
    """
    of_source = any(argument.startswith("--data.") for argument in ctx.args) or split is not None
    # What libraries print on the way must not end up in front of the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.inference.evaluate import Evaluation, evaluate

        asked = Evaluation(
            domains=domains,
            source=of_source or not (domains or questions or tasks),
            split=split or ("all" if any(each.startswith("--data.") for each in ctx.args) else "heldout"),
            length=length,
            stride=stride,
            questions=questions,
            tasks=tuple(name.strip() for name in (tasks or "").split(",") if name.strip()),
            limit=limit,
            batch_size=batch_size,
        )
        loaded = load_model(ctx, source, mesh, batch_size)
        result = {"model": source, **evaluate(loaded, asked)}
    _print(result, as_json)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
        return
    from levanter.inference.report import text

    print(text(result), end="")
