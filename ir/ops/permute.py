"""permute: each device passes its shard on to another."""

from ir.ops.move import Move


class Permute(Move):
    """The dims stay sharded over the same mesh axes; which device has which shard changes."""

    kind = "permute"
    communicates = True
    passes_on = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if not (gained or lost or paid) else "no dim to gain or lose a mesh axis"
