"""From a path or a URL to the folder that it names."""

from __future__ import annotations

from levanter.checkpoint.local_place import LocalPlace
from levanter.checkpoint.locations import Location, Url
from levanter.checkpoint.places import Place


def place_of(path: Location) -> Place:
    """The folder at a path or a URL; nothing is read.

    Raises:
        UserError: a package that such URLs need is not installed, or there is no such kind of URL.
    """
    if isinstance(path, Url):
        from levanter.checkpoint.remote_place import RemotePlace  # fsspec, where a URL needs it

        return RemotePlace(path)
    return LocalPlace(path)
