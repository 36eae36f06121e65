"""The functions of `haliax.tree_util`, under the short names of `jax.tree`."""

from haliax.tree_util import scan_aware_tree_map as scan_aware_map
from haliax.tree_util import tree_flatten as flatten
from haliax.tree_util import tree_leaves as leaves
from haliax.tree_util import tree_map as map
from haliax.tree_util import tree_structure as structure
from haliax.tree_util import tree_unflatten as unflatten

__all__ = ["flatten", "leaves", "map", "scan_aware_map", "structure", "unflatten"]
