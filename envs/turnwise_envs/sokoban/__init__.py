"""Push boxes onto targets: `turnwise/Sokoban-v0`, in rooms drawn from a seed and solved backwards."""
