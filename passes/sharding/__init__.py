"""How a value is sharded over a device mesh: the mesh, the sharding rules, and the way from one layout to another."""
