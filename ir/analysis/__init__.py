"""What is asked of a whole graph: is it well formed, who makes and reads a value, what changed."""
