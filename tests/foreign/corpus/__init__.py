"""Training steps made of other libraries' modules: see `corpus.case`."""
