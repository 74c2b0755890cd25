"""Conversation: `turnwise/Dialogue-v0` with a partner who has goals of its own, `turnwise/Questions-v0` with facts."""
