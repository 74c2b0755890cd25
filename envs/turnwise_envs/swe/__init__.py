"""`turnwise/SWE-v0`: repositories with a failing behaviour, and tasks made from real packages."""
