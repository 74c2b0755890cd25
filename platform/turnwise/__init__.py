"""Turnwise trains language-model agents by reinforcement learning on multi-turn tasks. This is its public door."""

from turnwise.env import Observation, ToolEnv, TurnEnv, tool
from turnwise.errors import InvalidAction, TurnwiseError, UserError
from turnwise.records import Batch, End, Event, Failure, FailureKind, Group, Message, Score, Task, Trajectory, Turn
from turnwise.registry import register

__all__ = [
    "Batch",
    "End",
    "Event",
    "Failure",
    "FailureKind",
    "Group",
    "InvalidAction",
    "Message",
    "Observation",
    "Score",
    "Task",
    "ToolEnv",
    "Trajectory",
    "Turn",
    "TurnEnv",
    "TurnwiseError",
    "UserError",
    "register",
    "tool",
]

__version__ = "0.1.0"
