"""Layouts by name, and compiled functions that keep to them."""

from jax.sharding import Mesh as Mesh
from jax.sharding import NamedSharding as NamedSharding
from jax.sharding import PartitionSpec as PartitionSpec

from haliax.partitioning.jit import NamedJit as WrappedCallable
from haliax.partitioning.jit import fsdp as fsdp
from haliax.partitioning.jit import named_jit as named_jit
from haliax.partitioning.layout import ResourceAxis as ResourceAxis
from haliax.partitioning.layout import _get_mesh as _get_mesh
from haliax.partitioning.layout import auto_sharded as auto_sharded
from haliax.partitioning.layout import infer_resource_partitions as infer_resource_partitions
from haliax.partitioning.layout import mesh_context as mesh_context
from haliax.partitioning.layout import physical_axis_name as physical_axis_name
from haliax.partitioning.layout import physical_axis_size as physical_axis_size
from haliax.partitioning.layout import pspec_for as pspec_for
from haliax.partitioning.layout import pspec_for_axis as pspec_for_axis
from haliax.partitioning.layout import round_axis_for_partitioning as round_axis_for_partitioning
from haliax.partitioning.layout import set_mesh as set_mesh
from haliax.partitioning.layout import shard as shard
from haliax.partitioning.layout import shard_with_axis_mapping as shard_with_axis_mapping
from haliax.partitioning.layout import sharding_for_axis as sharding_for_axis
from haliax.partitioning.mapping import PhysicalAxisSpec as PhysicalAxisSpec
from haliax.partitioning.mapping import ResourceMapping as ResourceMapping
from haliax.partitioning.mapping import axis_mapping as axis_mapping
from haliax.partitioning.mapping import current_thread_local_mapping as current_thread_local_mapping

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
