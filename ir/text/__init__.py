"""The text form: `print` writes a graph, `parse` reads it back; docs/ir.md has the grammar."""
