"""What a trained model is used for: text that goes on from a prompt, and how likely it finds a text."""
