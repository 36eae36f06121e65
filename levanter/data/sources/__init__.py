"""Where text comes from, a folder for each source."""
