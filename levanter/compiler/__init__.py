"""Where the runtime meets the compiler: the only modules of `levanter` that import `ir` and `passes`."""
