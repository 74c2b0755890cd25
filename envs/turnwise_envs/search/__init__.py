"""Deep search: `turnwise/Search-v0` over a world drawn from a seed, or over the user's own corpus."""
