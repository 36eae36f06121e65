"""`levanter status`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from levanter.cli.options import debug


@click.command("status")
@click.argument("run_dirs", metavar="RUN_DIR...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; of several runs, a list of them.")
@debug
def status_command(run_dirs: tuple[str, ...], as_json: bool) -> None:
    """Show where a run stands, with its loss curve.

    Its speed, the time left, its last checkpoint, and whether it runs just now. It reads the run directory alone, so it
    works while the run is made, and later. RUN_DIR is what `levanter train` printed, such as runs/gpt2_nano.
    """
    from levanter.runtime.status import Status, lines_of

    found = [Status.of(Path(each)) for each in run_dirs]
    if as_json:
        facts = [each.facts() for each in found]
        print(json.dumps(facts[0] if len(facts) == 1 else facts, indent=2))
    else:
        for line in lines_of(found, shutil.get_terminal_size().columns):
            print(line)
