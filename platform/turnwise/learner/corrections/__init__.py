"""Corrections of the mismatch between sampler and learner (algorithms.md 3.11), registered under `correction`.

With w = exp(log pi_proximal - log pi_sampler), clamped and without gradient, a correction multiplies each token's loss
after the clip and before aggregation. The objective's ratio is then taken against the proximal policy, the weights that
an update begins with, and not against the sampler: one ratio must not be counted twice. Bands bound w itself. A
rejected token has the factor 0 and stays in every denominator.
"""
