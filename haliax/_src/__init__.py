"""Private modules of the published library that real code imports from: each re-exports what it has there."""
