"""Programs that run inside a sandbox, each alone with Python's standard library. Nothing outside imports them."""
