"""What other makers' packages are given in tests: a class as TRL takes it, an OpenEnv server, and their steps."""

import asyncio
import contextlib
import random
import socket
import threading

import uvicorn


class Lights:
    """Switch all lights on."""

    def reset(self, count: int = 2, **row) -> str:
        self.on = [random.random() < 0.0 for _ in range(count)]
        self.nonce = random.randrange(10**6)
        row.clear()
        return f" There are {count} lights, room {self.nonce}."

    def switch(self, light: int) -> str:
        """Switch a light on.

        Args:
            light: Which one, from 0 on.

        Returns:
            What can be seen.
        """
        self.on[light] = True
        return f"{sum(self.on)} on"

    async def look(self) -> dict:
        """Look at the lights.

        Returns:
            What can be seen.
        """
        await asyncio.sleep(0)
        return {"on": sum(self.on), "luck": random.randrange(10**6)}

    def get_reward(self) -> float:
        return sum(self.on) / len(self.on)


class Undescribed(Lights):
    def dim(self, light: int) -> str:
        return ""


class Undecided(Lights):
    def get_reward(self) -> None: ...


class Unpaid:
    def reset(self) -> None: ...


def by_words(prompts, completions, environments, count, **columns):
    """A reward function with TRL's signature."""
    assert prompts[0][-1]["content"].startswith("Task ")
    assert "lights, room" in prompts[0][-1]["content"]
    words = [completion[-1]["content"] for completion in completions]
    return [
        2.0 * (word == f"{n} lights" and len(env.on) == n)
        for word, env, n in zip(words, environments, count, strict=True)
    ]


@contextlib.contextmanager
def serving(world, action, observation, sessions=64, port=0):
    """Serve an OpenEnv environment by the package's own server; yields the address and what ends it."""
    from openenv.core import create_fastapi_app

    app = create_fastapi_app(world, action, observation, max_concurrent_envs=sessions)
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", port))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="error", ws="websockets-sansio", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()

        def end():
            server.should_exit = server.force_exit = True
            thread.join(10)

        try:
            while not server.started:
                thread.join(0.01)
            yield f"http://127.0.0.1:{door.getsockname()[1]}", end
        finally:
            end()
