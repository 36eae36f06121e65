"""Every State of the Union message."""
