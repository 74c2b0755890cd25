"""What an agent reads of commands and files: bounded, cut in the middle, with the number of bytes left out."""

from __future__ import annotations

from turnwise.sandbox import Ran


def cut(data: bytes, limit: int, num_bytes: int | None = None) -> str:
    """Return output as text of about `limit` bytes; `num_bytes`: how many it had, where `data` is only the first.

    What is no UTF-8 is shown as such, and control characters but tabs and newlines are left out.
    """
    num_bytes = len(data) if num_bytes is None else num_bytes
    if num_bytes <= limit:
        return _readable(data)
    head = data[: limit // 2]
    tail = data[max(len(data) - limit // 2, len(head)) :]
    left_out = num_bytes - len(head) - len(tail)
    where = "" if num_bytes == len(data) else ", the end among them"
    if where:
        left_out, tail = num_bytes - len(head), b""
    return f"{_readable(head)}\n[... {left_out} bytes left out{where} ...]\n{_readable(tail)}".rstrip("\n")


def shown(ran: Ran, limit: int, deadline_s: float) -> str:
    """Return a command's output, and how it ended if not with exit status 0."""
    text = cut(ran.stdout, limit, ran.num_stdout).rstrip("\n")
    if ran.timed_out:
        return f"{text}\n[ended after {deadline_s:g} s]".lstrip("\n")
    if ran.code:
        how = f"signal {-ran.code}" if ran.code < 0 else f"exit status {ran.code}"
        return f"{text}\n[{how}]".lstrip("\n")
    return text or "[no output]"


def numbered(text: str, first: int, last: int, limit: int) -> str:
    """Return the lines from `first` to `last`, from 1 on, with their numbers."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    chosen = [f"{number:>6}  {line}" for number, line in enumerate(lines[first - 1 : last], start=max(first, 1))]
    left = len(lines) - last
    rest = f"\n[{left} more lines]" if left > 0 else ""
    return cut("\n".join(chosen).encode(errors="replace"), limit) + rest


def _readable(data: bytes) -> str:
    text = data.decode(errors="replace")
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
