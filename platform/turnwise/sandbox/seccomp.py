"""The system calls that no sandbox has: those that make namespaces, mounts and devices, load code into the kernel, or
look into other processes. Beside having no capability, which forbids most of them already: what is left of the kernel
to attack gets smaller.

Written twice for the machine's architecture. `program` is what bwrap and `inside.py` install: a list of what is denied,
since a program for the kernel names numbers, and what it does not know is rare. `profile` is for Docker and Podman,
where it takes the place of their own list of what is allowed, and must not be weaker than that: it allows what
libseccomp knows by name and is not denied, and a call that is newer than that does not exist inside. What is denied
fails with EPERM.
"""

from __future__ import annotations

import errno
import functools
import json
import tempfile
from typing import Any

CLONE_NEWUSER = 0x10000000
"""The one kind of namespace that takes no capability."""

DENIED = (
    "_sysctl", "acct", "add_key", "afs_syscall", "bpf", "chroot", "clock_adjtime", "clock_settime", "create_module",
    "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms",
    "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "move_pages", "name_to_handle_at",
    "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "personality", "pidfd_getfd", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl", "quotactl_fd", "reboot",
    "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "stime", "swapoff", "swapon", "sysfs",
    "syslog", "umount", "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup", "vm86", "vm86old",
)  # fmt: skip

FAMILIES = (1, 2, 10)
"""Sockets that may be made: AF_UNIX, AF_INET, AF_INET6. Without a network they reach nobody outside."""


FILE_TYPE, DEVICES = 0o170000, (0o020000, 0o060000)
"""The bits of a mode that tell what kind of file it is; devices of characters and of blocks."""

SIGNALS = {"kill": 0, "tkill": 0, "tgkill": 0, "rt_sigqueueinfo": 0, "rt_tgsigqueueinfo": 0, "pidfd_open": 0}
"""Calls that reach another process, and which of their arguments names it."""

F_SETSIG, F_SETOWN, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP = 10, 8, 15, 0x8901, 0x8902
"""What has the kernel send a signal to another process once a file is ready."""

INT = 0xFFFFFFFF
"""The bits of an argument that the kernel reads as an int."""


@functools.cache
def program(*, is_gvisor: bool = False) -> bytes:
    """Return the filter; ImportError or OSError without libseccomp.

    In gVisor nobody but this filter keeps signals from the first process.
    """
    import pyseccomp

    refused = pyseccomp.ERRNO(errno.EPERM)
    filters = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in DENIED:
        try:
            filters.add_rule(refused, name)
        except (RuntimeError, OSError, ValueError):  # not a call of this architecture
            continue
    filters.add_rule(refused, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER))
    filters.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie in memory: libc falls back to clone
    filters.add_rule(refused, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))  # no limits for the first process
    filters.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.GT, max(FAMILIES)))
    for family in set(range(max(FAMILIES))) - set(FAMILIES):
        filters.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    for name, index in (("mknod", 1), ("mknodat", 2)):
        for kind in DEVICES:
            filters.add_rule(refused, name, pyseccomp.Arg(index, pyseccomp.MASKED_EQ, FILE_TYPE, kind))
    if is_gvisor:
        for name, index in SIGNALS.items():
            filters.add_rule(refused, name, pyseccomp.Arg(index, pyseccomp.MASKED_EQ, INT, 1))
        for name, commands in (("fcntl", (F_SETSIG, F_SETOWN, F_SETOWN_EX)), ("ioctl", (FIOSETOWN, SIOCSPGRP))):
            for command in commands:
                filters.add_rule(refused, name, pyseccomp.Arg(1, pyseccomp.MASKED_EQ, INT, command))
    with tempfile.TemporaryFile() as file:
        filters.export_bpf(file)
        file.seek(0)
        return file.read()


BY_ARGUMENT = ("clone", "clone3", "prlimit64", "socket")
"""Calls that are allowed with some arguments alone; clone3 never, like above."""

NUM_CALLS = 1024
"""Numbers of calls that are asked for; the newest are below 500."""


@functools.cache
def profile() -> str:
    """Return the filter as Docker reads it; ImportError or OSError without libseccomp."""
    import pyseccomp

    known = set()
    for number in range(NUM_CALLS):
        try:
            name = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, number)
        except (RuntimeError, OSError, ValueError):  # no such number
            continue
        known.add(name.decode() if isinstance(name, bytes) else str(name))
    allowed = sorted(known - set(DENIED) - set(BY_ARGUMENT))
    rules = [
        {"names": allowed, "action": "SCMP_ACT_ALLOW"},
        {"names": [*DENIED], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        _only("clone", 0, "SCMP_CMP_MASKED_EQ", CLONE_NEWUSER, 0),
        _only("prlimit64", 0, "SCMP_CMP_EQ", 0),
        *(_only("socket", 0, "SCMP_CMP_EQ", family) for family in FAMILIES),
    ]
    default = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EPERM}
    return json.dumps({**default, "syscalls": rules})


def _only(name: str, index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    args = [{"index": index, "value": value, "valueTwo": second, "op": op}]
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}
