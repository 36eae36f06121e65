"""reduce_scatter: pays a pending reduction, and shards the result."""

from ir.ops.move import Move


class ReduceScatter(Move):
    """Each device gets the sum of one shard."""

    kind = "reduce_scatter"
    communicates = True
    completes_sums = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = paid == mesh and mesh <= gained and not lost
        return "" if fine else "the reduction over `mesh` to be made and a dim to be sharded over it"
