"""`levanter train` under the name that users of Levanter know.

python -m levanter.main.train_lm --config_path config/gpt2_nano.yaml
python levanter/main/train_lm.py --config_path config/gpt2_nano.yaml --optimizer.learning_rate 1e-3
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Run as a script: Python looks for packages beside this file, and ours are two folders up.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from levanter.cli.main import main as levanter
from levanter.runtime.huge_pages import restart_with_them


def main() -> int:
    """Run `levanter train` with the arguments of this process."""
    restart_with_them()
    return levanter(["train", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
