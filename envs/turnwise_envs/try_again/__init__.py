"""Any environment of one answer, as one of several attempts: `turnwise/TryAgain-v0`."""
