"""Progress on the console."""
