"""Local text files."""
