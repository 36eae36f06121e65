"""all_to_all: mesh axes go from one dim to another."""

from ir.ops.move import Move


class AllToAll(Move):
    """Each device keeps as much as it had, of another dim."""

    kind = "all_to_all"
    communicates = True
    exchanges = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = gained == mesh and lost == mesh and not paid
        return "" if fine else "the axes of `mesh` to go from one dim to another"
