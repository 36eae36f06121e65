"""Sharding rules of other systems: how they are read, and the whole text of everything that is found."""

from __future__ import annotations

from textwrap import dedent

import pytest
from step_models import prepared

import passes
from passes.errors import PlanError
from passes.foreign.emit import FORMATS, emitted
from passes.foreign.findings import Finding
from passes.foreign.held import held, laid_otherwise, plan_of, step_of
from passes.foreign.names import table
from passes.foreign.reading import Module
from passes.sharding.mesh import DeviceMesh

GRAPH = prepared("raw")
MODULES = (
    Module("model.embed_tokens", "params.tokens", (("vocab",), ("embed",)), table=True),
    Module("model.layers.0.mlp.up_proj", "params.up", (("mlp",), ("embed",))),
    Module("model.layers.0.mlp.down_proj", "params.down", (("embed",), ("mlp",))),
    Module("model.layers.0.self_attn.o_proj", "params.out", (("embed",), ("heads", "head_size"))),
)


def rules(text: str, mesh: str = "data=4,model=2", name: str = "rules.yaml", own: dict[str, str] | None = None):
    layout = DeviceMesh.of(mesh)
    return held(dedent(text), name, GRAPH, step_of(GRAPH, layout, MODULES, own))


def found(text: str, mesh: str = "data=4,model=2", name: str = "rules.yaml") -> list[Finding]:
    return rules(text, mesh, name).findings()


def said(text: str, mesh: str = "data=4,model=2", name: str = "rules.yaml") -> list[str]:
    return [f"{each.where}: {each.code}: {each.what}; fix: {each.fix}" for each in found(text, mesh, name)]


def test_levanter_that_is_right() -> None:
    text = """\
        trainer:
          fsdp_axis: embed
          tensor_parallel_axes: [mlp, heads]
          batch_axis: batch
    """
    assert said(text) == []
    plan = plan_of(rules(text), DeviceMesh.of("data=4,model=2"), "v5e")
    assert dict(plan.compute) == {"batch": ("data",), "mlp": ("model",), "heads": ("model",)}
    assert plan.storage["embed"] == ("data",)


DOWN = "`params.down` [layers=2, mlp=128, embed=32]"
CHOICES = """\
- [activation_batch, fsdp]
- [activation_mlp, tensor]
- [norm, null]
- [mlp, [fsdp_transpose, tensor]]
- [position, fsdp_transpose]
- [heads, [fsdp_transpose, tensor]]
- [vocab, [fsdp_transpose, tensor]]
- [embed, [fsdp, fsdp_transpose]]
"""
CASES = {
    "several FSDP axes of one array": (
        "trainer:\n  fsdp_axis: [embed, vocab, mlp]\n  tensor_parallel_axes: heads\n",
        "data=4,model=2",
        "rules.yaml:2: conflict: `mlp`, `embed` and `vocab` want mesh axis `data` in the same array: 3 arrays, such as "
        f"{DOWN}. A mesh axis shards one dim of an array; JAX refuses such an array; fix: keep `embed: data`, "
        "whose axis 7 "
        "of 7 parameters have, and remove the others",
    ),
    "a rule that takes all or nothing": (
        "- [batch, fsdp]\n- [mlp, tensor]\n- [heads, tensor]\n- [vocab, tensor]\n- [embed, fsdp]\n"
        "- [head_size, tensor]\n- [position, fsdp]\n- [position, null]\n",
        "fsdp=2,tensor=2",
        "rules.yaml:6: conflict: `heads` and `head_size` want mesh axis `tensor` in the same array: 2 arrays, such as "
        "`params.qkv` [layers=2, embed=32, qkv=3, heads=4, head_size=8]. A mesh axis shards one dim of an "
        "array; the first "
        "rule wins, so `head_size` is not sharded there; fix: give `head_size` a later rule with the mesh axes "
        "that are "
        "left, or null where that is meant",
        "rules.yaml:6: never: `head_size: tensor` never applies: in every array with head_size, `heads: "
        "tensor` takes "
        "`tensor` for heads first; fix: remove it, or place it before the other",
    ),
    "the scale of a norm": (
        "- [activation_batch, fsdp]\n- [activation_mlp, tensor]\n- [mlp, tensor]\n- [vocab, tensor]\n- [heads, "
        "tensor]\n"
        "- [embed, fsdp]\n- [norm, tensor]\n",
        "fsdp=4,tensor=2",
        "rules.yaml:7: vector: `norm: tensor` shards nothing over `tensor` but the scales of norms (1 array, such as "
        "`params.norm` [layers=2, embed=32], 256 B in all). `tensor` shards other axes of what is computed "
        "with, so every "
        "use gathers them, and every gradient is resharded; fix: replicate them: remove `tensor` from the rule",
    ),
    "the axis of a scan": (
        "- [layers, fsdp]\n- [activation_batch, fsdp]\n- [embed, fsdp]\n- [embed, null]\n",
        "fsdp=2",
        "rules.yaml:1: scan: `layers: fsdp` shards the axis that the loop over layers scans. Every device needs each "
        "slice, so 5 of 7 parameters are replicated where they are used, and `embed` cannot have it there; "
        "fix: remove the "
        "rule, so that fsdp can shard another axis of these parameters",
    ),
    "a size that does not divide": (
        "compute_axis_mapping: {batch: model}\nparameter_axis_mapping: {embed: [data, model]}\n",
        "data=3,model=2",
        "rules.yaml:2: divide: embed = 32 does not divide by 6 (data=3, model=2), so 7 arrays cannot be "
        "sharded so, such "
        f"as {DOWN}; fix: set the size of embed to 30 or 36, or shard it over fewer devices",
    ),
    "a name that is misspelled": (
        "- [activation_batch, data]\n- [activation_mpl, data]\n- [embed, data]\n- [cache_batch, data]\n",
        "data=4",
        "rules.yaml:2: never: `activation_mpl: data` never applies: the step has no axis of that name; fix: "
        "did you mean "
        "`activation_mlp`?",
    ),
    "a rule that always loses": (
        "- [activation_batch, data]\n- [activation_position, data]\n- [embed, data]\n- "
        "[activation_key_position, data]\n",
        "data=4",
    ),
    "a second choice that has what the first one wanted": (f"{CHOICES}- [embed, fsdp]\n", "fsdp=4,tensor=2"),
    "a first choice that is lost": (
        f"{CHOICES}- [embed, null]\n",
        "fsdp=4,tensor=2",
        "rules.yaml:8: never: `embed: [fsdp, fsdp_transpose]` never applies: in every array with embed, `mlp: "
        "[fsdp_transpose, tensor]` takes `fsdp_transpose` for mlp first; fix: remove it, or place it before the "
        "other",
    ),
    "parameters that no rule is about": (
        "compute_axis_mapping: {batch: [data, model]}\nparameter_axis_mapping: {vocab: data}\n",
        "data=4,model=2",
        "rules.yaml: replicated: 5 of 7 parameters are replicated on all 8 devices: 98.0 KiB, 92% of all, such as "
        f"{DOWN}. No rule shards an axis of it; fix: add a rule, such as `mlp: data`, or say null for its axes "
        "where that "
        "is meant",
    ),
    "a mesh axis that there is not": (
        "axis_resources: {batch: [data, model], embed: mdoel}\nparameter_axis_resources: {embed: model}\n",
        "data=4,model=2",
        "rules.yaml:1: mesh: mesh axis `mdoel` of `embed` is none of this mesh (data=4, model=2), so these rules shard "
        "nothing over it; fix: did you mean `model`?",
    ),
    "a mesh axis for nothing": (
        "compute_axis_mapping: {batch: data}\nparameter_axis_mapping: {embed: data}\n",
        "data=4,model=2",
        "rules.yaml: unused: no rule shards anything over mesh axis `model`: its 2 groups of devices all "
        "compute the same; "
        "fix: shard the batch over `model`, or parameters and what is computed with",
    ),
    "state that is stored and a batch that is not": (
        "parameter_axis_mapping: {embed: data}\n",
        "data=4",
        "rules.yaml: batch: mesh axis `data` shards parameters at rest and nothing that is computed with: its "
        "4 groups of "
        "devices all compute the same batch; fix: shard `batch` over `data`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case: str) -> None:
    text, mesh, *messages = CASES[case]
    assert said(text, mesh) == messages


def test_a_plan_of_hugging_face() -> None:
    text = """
        class Config:
            base_model_tp_plan = {
                "layers.*.mlp.up_proj": "colwise",
                "layers.*.mlp.down_proj": "rowwise",
                "layers.*.self_attn.o_proj": "rowwise",
                "embed_tokens": "rowwise",
                "layers.*.mlp.gate_projj": "colwise",
            }
    """
    read = rules(text, "data=2,tp=2", "config.py")
    plan = plan_of(read, DeviceMesh.of("data=2,tp=2"), "v5e")
    assert dict(plan.compute) == {"mlp": ("tp",), "heads": ("tp",), "vocab": ("tp",)}
    first, *_ = said(text, "data=2,tp=2", "config.py")
    assert first == (
        "config.py:8: never: `layers.*.mlp.gate_projj` never applies: the model has no such module; fix: correct the "
        "pattern, or remove it"
    )


def test_specs_count_from_the_first_dim() -> None:
    """A spec that was written for one layer shards the axis of the scan."""
    text = "partition_specs:\n  at_rest:\n    params.up: [data, model]\n  activations:\n    batch: [data]\n"
    first = next(each for each in found(text, "data=2,model=2") if each.code == "scan")
    assert first.what.startswith("`params.up: data` shards the axis that the loop over layers scans")
    assert first.arrays == ("params.up",)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            "a: [\n",
            "r.yaml",
            "r.yaml:2: the file cannot be parsed: expected the node content, but found '<stream end>'",
        ),
        ("x = (\n", "r.py", "r.py:1: the file cannot be parsed: '(' was never closed"),
        (
            "logical_axis_rules: [[embed]]\n",
            "r.yaml",
            "r.yaml:1: a logical axis rule is a pair of a name and mesh axes, such as ['embed', 'fsdp']",
        ),
        (
            "trainer: {fsdp_axis: {a: b}}\n",
            "r.yaml",
            "r.yaml:1: `fsdp_axis` has no mesh axes; write one, a list of them, or null",
        ),
        (
            "tp_plan: {a.b: colwise, c.d: rowise}\n",
            "r.yaml",
            "r.yaml:1: `c.d` has the style 'rowise', which is not known here; did you mean 'rowwise'?",
        ),
        (
            "partition_specs: {at_rest: {params.norm: [null, data, data]}}\n",
            "r.yaml",
            "r.yaml:1: the spec of `params.norm` has 3 dims, and the array has 2 (layers, embed); remove the others",
        ),
        (
            "partition_specs: {at_rest: {params.norm: data}}\n",
            "r.yaml",
            "r.yaml:1: the spec of `params.norm` is a list with mesh axes or null for each dim, such as [null, data]",
        ),
        (
            "model: {type: llama}\n",
            "r.yaml",
            "r.yaml: it has no sharding rules that are known here; give an axis mapping of Levanter (axis_resources, "
            "fsdp_axis, tensor_parallel_axes, parameter_axis_mapping, compute_axis_mapping), "
            "logical_axis_rules of MaxText "
            "or Flax, a tp_plan of Hugging Face, or partition_specs by path",
        ),
    ],
)
def test_what_cannot_be_read(text: str, name: str, message: str) -> None:
    with pytest.raises(PlanError) as refused:
        rules(text, name=name)
    assert str(refused.value) == message


def test_names_of_ones_own() -> None:
    own = rules("- [batch, data]\n- [ffn, model]\n", own={"ffn": "mlp"})
    assert plan_of(own, DeviceMesh.of("data=4,model=2"), "v5e").compute["mlp"] == ("model",)
    with pytest.raises(
        PlanError, match="'ffn' is to mean 'mpl', and the step has no axis of that name; did you mean 'mlp'"
    ):
        rules("- [ffn, model]\n", own={"ffn": "mpl"})


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("compute", "storage"),
    [
        ({"batch": ("data",), "mlp": "model", "heads": "model", "vocab": "model"}, {"embed": "data"}),
        ({"batch": ("data", "model")}, {"embed": ("data", "model")}),
        ({"batch": ("data", "model")}, {"mlp": "model", "vocab": ("data", "model"), "heads": "data"}),
    ],
)
def test_what_is_emitted_reads_back(kind: str, compute: dict[str, str], storage: dict[str, str]) -> None:
    plan = passes.Plan.by_hand("data=4,model=2", compute, storage)
    text = emitted(kind, GRAPH, plan)
    read = rules(text, name="rules.py" if kind == "flax" else "rules.yaml")
    assert read.findings() == []
    again = plan_of(read, plan.mesh, "v5e")
    assert (dict(again.compute), dict(again.storage)) == (dict(plan.compute), dict(plan.storage))
    assert list(laid_otherwise(read, plan)) == []


def test_what_levanter_cannot_say() -> None:
    """Levanter's mappings have no order, so that two axes of an array cannot both be over one mesh axis."""
    plan = passes.Plan.by_hand("data=4,model=2", {"batch": "data", "mlp": "model", "position": "model"})
    for kind in FORMATS:
        if kind == "levanter":
            with pytest.raises(
                PlanError,
                match="rules of levanter: `(mlp|position)` and `(mlp|position)` want mesh axis `model`",
            ):
                emitted(kind, GRAPH, plan)
        else:
            assert rules(emitted(kind, GRAPH, plan), name="r.py" if kind == "flax" else "r.yaml").findings() == []
    stored = passes.Plan.by_hand("8", {"batch": "data"}, {"embed": "data"}, stored=["optimizer"])
    with pytest.raises(PlanError) as refused:
        emitted("flax", GRAPH, stored)
    assert str(refused.value) == (
        "the plan cannot be written as rules of flax: they lay all state out alike, and the plan stores "
        "optimizer over axes "
        "of its own"
    )


def test_every_name_of_the_table_is_in_the_documentation() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "lint.md").read_text(encoding="utf-8")
    for theirs, ours, _ in table():
        assert f"| `{theirs}` | {ours} |" in text
