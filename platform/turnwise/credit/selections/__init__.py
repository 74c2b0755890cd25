"""Selections, a file each: which scored groups and trajectories are trained on, and when."""
