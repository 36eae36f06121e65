"""GPT-2 as `levanter train` runs it: scanned layers, AdamW, clipping, a schedule."""

from zoo.training import Step

from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of

SIZES = {
    "model.seq_len": 10,
    "model.hidden_dim": 14,
    "model.num_heads": 2,
    "model.num_layers": 5,
    "model.vocab_size": 34,
    "model.vocab_multiple": 34,
    "trainer.train_batch_size": 4,
}


def build() -> Step:
    config = load("gpt2_nano", [word for name, value in SIZES.items() for word in (f"--{name}", str(value))])
    return Step(train_step_of(config), state_shape(config), batch_shape(config))
