"""Function calling: `turnwise/Tool-v0` over simulated services, with a policy document and a user to talk to."""
