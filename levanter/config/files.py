"""Where the shipped configurations are: `config/` of a checkout, or `levanter/_configs/` of an installed wheel."""

from __future__ import annotations

from pathlib import Path

from levanter.config import errors

DEFAULT_MODEL = "gpt2_nano"
_PACKAGE = Path(__file__).resolve().parents[1]


def config_folder() -> Path:
    """The folder of the shipped configurations."""
    installed = _PACKAGE / "_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "config"


def model_names() -> list[str]:
    """Names that `--model` takes, sorted; a file `*_base.yaml` is there to be extended and is left out."""
    names = sorted(path.stem for path in config_folder().glob("*.yaml"))
    return [name for name in names if not name.endswith("_base")]


def find_model(name: str) -> Path:
    """The configuration file of the model `name`.

    Raises:
        UserError: there is none; the message has the nearest name.
    """
    names = model_names()
    if name not in names:
        raise errors.unknown_model(name, names)
    return config_folder() / f"{name}.yaml"
