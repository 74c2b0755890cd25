"""Unreliable parts for tests, shipped for users too: what a platform promises about failures is tried with them."""
