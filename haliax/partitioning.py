"""Layouts by name, and compiled functions that keep to them."""

from haliax.jit import NamedJit as WrappedCallable
from haliax.jit import fsdp as fsdp
from haliax.jit import named_jit as named_jit
from haliax.layout import ResourceAxis as ResourceAxis
from haliax.layout import auto_sharded as auto_sharded
from haliax.layout import infer_resource_partitions as infer_resource_partitions
from haliax.layout import mesh_context as mesh_context
from haliax.layout import physical_axis_name as physical_axis_name
from haliax.layout import physical_axis_size as physical_axis_size
from haliax.layout import pspec_for as pspec_for
from haliax.layout import pspec_for_axis as pspec_for_axis
from haliax.layout import round_axis_for_partitioning as round_axis_for_partitioning
from haliax.layout import set_mesh as set_mesh
from haliax.layout import shard as shard
from haliax.layout import shard_with_axis_mapping as shard_with_axis_mapping
from haliax.layout import sharding_for_axis as sharding_for_axis
from haliax.mapping import PhysicalAxisSpec as PhysicalAxisSpec
from haliax.mapping import ResourceMapping as ResourceMapping
from haliax.mapping import axis_mapping as axis_mapping
from haliax.mapping import current_thread_local_mapping as current_thread_local_mapping

__all__ = [
    "PhysicalAxisSpec",
    "ResourceAxis",
    "ResourceMapping",
    "WrappedCallable",
    "auto_sharded",
    "axis_mapping",
    "current_thread_local_mapping",
    "fsdp",
    "infer_resource_partitions",
    "mesh_context",
    "named_jit",
    "physical_axis_name",
    "physical_axis_size",
    "pspec_for",
    "pspec_for_axis",
    "round_axis_for_partitioning",
    "set_mesh",
    "shard",
    "shard_with_axis_mapping",
    "sharding_for_axis",
]
