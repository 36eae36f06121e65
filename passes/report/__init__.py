"""What is shown to people of a plan."""
