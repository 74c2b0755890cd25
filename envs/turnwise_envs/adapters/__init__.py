"""Environments of other makers, as they are, behind our interface. Each module is optional and needs a package of its own."""
