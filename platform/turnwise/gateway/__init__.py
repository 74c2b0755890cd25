"""The policy behind OpenAI's chat completions, for agent programs that are not rewritten, tokens kept for training.

A program is given an address and a secret, and talks as it would to any such service. What it asks becomes tokens by
the agent's own dialogue (`turnwise.agent`), is sampled as any action of a rollout is, and is kept: `session.py` is one
episode's talk, `spans.py` makes turns of it, `play.py` is the environment as the program acts in it. `door.py`,
`for_tools.py` and `server.py` are the way in, and need the packages of the extra `mcp`; nothing else knows of HTTP.
"""
