"""all_gather: a dim that was sharded is replicated."""

from ir.ops.move import Move


class AllGather(Move):
    """Each device gets the shards of all others."""

    kind = "all_gather"
    communicates = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if lost == mesh and not gained and not paid else "a dim to leave the axes of `mesh`, and no more"
