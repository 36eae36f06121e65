"""What families of models share: attention, rotary positions, gated MLPs, experts, and the decoder around them."""
