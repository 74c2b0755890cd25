"""Chores in a room, in words: `turnwise/Household-v0`, in the shape of ALFWorld, drawn from a seed."""
