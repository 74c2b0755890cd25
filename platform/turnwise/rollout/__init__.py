"""Rollouts: episodes of an agent in an environment. `episode` is one, `worker` runs many, `actor` is the Ray shell."""
