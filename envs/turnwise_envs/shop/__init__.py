"""A small web shop and shopping tasks in it: `turnwise/Shop-v0`."""
