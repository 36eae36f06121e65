"""What a run keeps of the model folder that it started from, so that what is exported is as complete.

RUN_DIR/hugging_face/config.json, tokenizer.json, …    as they were
                     import.json                       where they came from, and the dtype of each tensor
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from levanter import durable
from levanter.hf.folder import HfFolder, read_json
from levanter.hf.safetensors import read_folder
from levanter.runtime.run_directory import HUGGING_FACE

_ORIGIN = "import.json"


@dataclass(frozen=True)
class Origin:
    """Where weights came from, and the dtype that they had: of most tensors, and of the others by name."""

    source: str
    dtype: str
    other_dtypes: Mapping[str, str]


def keep(folder: HfFolder, run: Path) -> Origin:
    """Copy what travels with the weights of `folder` to the run directory `run`."""
    kept = run / HUGGING_FACE
    kept.mkdir(exist_ok=True)
    dtypes = {name: tensor.dtype.name for name, tensor in read_folder(folder.path).items()}
    most = Counter(dtypes.values()).most_common(1)[0][0]
    origin = Origin(folder.source, most, {name: each for name, each in dtypes.items() if each != most})
    for path in folder.companions():
        durable.write_file(kept / path.name, path.read_bytes())
    # Written last: where it is, all is there.
    durable.write_file(kept / _ORIGIN, (json.dumps(asdict(origin), indent=2) + "\n").encode())
    return origin


def origin_of(run: Path) -> Origin | None:
    """Where the weights of a run directory came from, or None where they are its own."""
    path = run / HUGGING_FACE / _ORIGIN
    if not path.is_file():
        return None
    fields: dict[str, Any] = read_json(path)
    return Origin(fields["source"], fields["dtype"], fields["other_dtypes"])


def kept_folder(run: Path) -> HfFolder:
    """The kept files as a model folder without weights."""
    return HfFolder(run / HUGGING_FACE, str(run / HUGGING_FACE))
