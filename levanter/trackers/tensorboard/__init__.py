"""TensorBoard as a mirror."""
