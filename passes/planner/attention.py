"""How attention is computed where its queries' positions are sharded: the word of a plan for it. No JAX here.

`ring`: the positions of keys are sharded likewise, and the keys go round the devices. Left out: keys and values are
gathered (`passes.ring_attention`).
"""

from passes.planner.errors import attention_word

ATTENTION = "attention"
"""What the choice is called in a plan, in pins and in reports."""
RING, GATHERED = "ring", "gathered"
AS_IT_IS = ""
WORDS = (RING,)


def attention_of(word: str) -> str:
    """A choice from its word. Raises `PlanError` for one that there is not."""
    if word not in (*WORDS, AS_IT_IS):
        raise attention_word(word, WORDS)
    return word
