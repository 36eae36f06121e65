"""The classic axis mistakes, each beside its twin that is right: see `mistakes.pair`."""

from mistakes import attention, layout, lookups, loops, losses, products, styles, vision

FAMILIES = (attention, layout, lookups, loops, losses, products, styles, vision)
