"""Entry points that users of Levanter know by their path."""
