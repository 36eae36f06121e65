"""reshard: each device keeps its part of what it has already; nothing is sent."""

from ir.ops.move import Move


class Reshard(Move):
    """A dim, which was replicated over some mesh axes, is sharded over them."""

    kind = "reshard"
    fusible = True
    slices_shards = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if gained == mesh and not lost and not paid else "a dim to be sharded over `mesh`, and no more"
