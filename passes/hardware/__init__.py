"""The chips that are planned for, and what their networks cost."""
