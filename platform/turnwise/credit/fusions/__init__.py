"""Fusions, a file each: changes of rewards before they are estimated; `Fusion` in `turnwise.credit` is the contract."""
