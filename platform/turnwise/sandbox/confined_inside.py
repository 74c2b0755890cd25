"""What runs a confined program: as a user that owns nothing, with sockets handed out, and to the end of its owner.

`confined.py` has it run by a plain Python, as the first program in the namespaces or, unconfined, as a process. It is
told what to do over a Unix socket, a byte each: the first one starts the program; each later one asks for a socket that
listens on this namespace's loopback, which is handed over. Whoever holds that answers what connects to it; the
namespace has no other way out. When the other end closes, whoever was killed, the program ends.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

PIPES = (3, 4)
"""Descriptors that whoever started this has for the program."""


def main(door: str, uid: str, *command: str) -> None:
    """Serve the socket `door` until it closes or the program ends; `uid` 0 keeps the user."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.connect(door)
    if int(uid):
        become(int(uid))
    if not link.recv(1):
        return
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=PIPES)
    for number in PIPES:
        os.close(number)
    ended = os.pidfd_open(program.pid)
    while True:
        ready, _, _ = select.select([link.fileno(), ended], [], [])
        if ended in ready or not link.recv(1):
            program.kill()
            return
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            socket.send_fds(link, [b"x"], [listener.fileno()])


def become(uid: int) -> None:
    """Be this user and no other, for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


if __name__ == "__main__":
    main(*sys.argv[1:])
