"""Advantage estimators, a file each; `Estimator` in `turnwise.credit` is what one must offer."""
