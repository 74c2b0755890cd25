"""Environments of other makers, as they are, behind our interface; each needs a package of its own."""
