"""Environments for other machines: sessions under a token, over plain HTTP and over the Model Context Protocol.

`turnwise env serve` runs it. A session is one environment in a thread of its own; logic is in plain classes, and what
needs the packages of the extra `mcp` (Starlette, uvicorn, mcp) is imported when it is run.
"""
