"""An import holds one copy of the weights: what devices have, and besides never more than a shard on its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from levanter.hf.exporting import write_weights
from levanter.hf.table import table_of
from levanter.models.gpt2.config import Gpt2Config

ROOT = Path(__file__).resolve().parents[3]
LARGE = Gpt2Config(seq_len=256, vocab_size=12288, hidden_dim=1024, num_heads=16, num_layers=7)

PROGRAM = """
import json, sys, threading, time
import jax
from jax.sharding import NamedSharding, PartitionSpec
from levanter.hf.folder import open_folder
from levanter.hf.importing import import_model
from levanter.models.check import build
from levanter.runtime.state import flat_names


def resident():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


folder = open_folder(sys.argv[1])
config = folder.model_config()
like = jax.eval_shape(lambda: build(config, jax.random.key(0)))
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def sharding(leaf):
    over = next((i for i, size in enumerate(leaf.shape) if size % 1024 == 0), None)
    return NamedSharding(mesh, PartitionSpec(*[None] * over, "data") if over is not None else PartitionSpec())


shardings = jax.tree.map(sharding, like)
jax.block_until_ready([jax.device_put(1.0, device) for device in jax.devices()])
before = peak = resident()
done = False


def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.001)


thread = threading.Thread(target=watch)
thread.start()
model = jax.block_until_ready(import_model(folder, config, like, shardings))
done = True
thread.join()
leaves = flat_names(model)
print(json.dumps({
    "copy": sum(leaf.nbytes for leaf in leaves.values()),
    "grown": peak - before,
    "devices": len({shard.device for leaf in leaves.values() for shard in leaf.addressable_shards}),
    "sharded": sum(leaf.nbytes for leaf in leaves.values() if not leaf.is_fully_replicated),
    "sum": float(sum(leaf.sum() for leaf in leaves.values())),
}))
"""


class _Drawn(dict[str, np.ndarray]):
    """Arrays that are made when they are asked for: this process holds no copy, either."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._shapes = shapes

    def __missing__(self, name: str) -> np.ndarray:
        return np.full(self._shapes[name], 1e-3, np.float32)


def test_an_import_over_eight_devices_holds_one_copy(tmp_path: Path) -> None:
    from folders import shape_of

    from levanter.hf.exporting import hf_config
    from levanter.runtime.state import flat_names

    like = shape_of(LARGE)
    arrays = _Drawn({name: leaf.shape for name, leaf in flat_names(like).items()})
    write_weights(tmp_path, table_of(LARGE, like), arrays, "float32", {}, 100_000_000)
    (tmp_path / "config.json").write_text(json.dumps(hf_config(LARGE, "float32", {})))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert size > 400_000_000

    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8 and found["sharded"] > 0.99 * found["copy"]
    assert abs(found["sum"] / (found["copy"] / 4 * 1e-3) - 1) < 1e-3
    assert found["grown"] < 1.3 * found["copy"]
    print(f"{found['grown'] / found['copy']:.2f} copies of {found['copy'] / 1e6:.0f} MB")
