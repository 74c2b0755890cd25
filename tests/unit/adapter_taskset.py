"""A taskset of the package verifiers, for tests: sums, with a tool that adds and one that breaks."""

import verifiers.v1 as vf
from pydantic_config import BaseConfig

__all__ = ["SumTaskset"]


class SumConfig(vf.TasksetConfig):
    num: int = 10
    factor: int = 1


class SumData(vf.TaskData):
    answer: str


class Adder(vf.Toolset[BaseConfig, vf.State]):
    @vf.tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @vf.tool
    async def fail(self) -> str:
        """Fail."""
        raise ValueError("it is broken")


class SumTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.25)
    async def used(self, trace: vf.Trace) -> float:
        return float(any(message.content == self.data.answer for message in trace.tool_messages))

    @classmethod
    def toolsets(cls, config):
        return [Adder(BaseConfig())]


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for n in range(self.config.num):
            first = n * self.config.factor
            prompt = f"What is {first} plus 5?"
            yield SumTask(SumData(prompt=prompt, system_prompt="Be brief.", answer=str(first + 5)), self.config.task)
