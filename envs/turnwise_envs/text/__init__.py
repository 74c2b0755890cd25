"""Other people's discrete environments as text: `turnwise/GymText-v0`."""
