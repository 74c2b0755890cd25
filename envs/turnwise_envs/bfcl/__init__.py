"""BFCL's multi-turn tasks as an environment; data and simulated services come from the wheel `bfcl-eval`."""
