"""Policy objectives (algorithms.md 3.10), one file each, registered under the kind `objective`.

Called by the learner, once a micro-batch. A ratio is taken against `ActionTokens.base`: the sampler's
log-probabilities, so that staleness and the engine's own rounding are part of it; with a correction those of the
proximal policy, the weights at the start of the update, while the correction accounts for the rest of the way to the
sampler. Denominators are those of the whole minibatch: splitting it changes nothing but rounding.

Of every objective holds: where the policy is still what the ratio is taken against, its gradient is that of
-sum_t weight_t advantage_t log pi_t.
"""
