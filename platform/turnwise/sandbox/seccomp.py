"""The system calls that no sandbox has: those that make namespaces, mounts and devices, load code into the kernel, or
look into other processes. Beside having no capability, which forbids most of them already: what is left of the kernel
to attack gets smaller.

A program for `bwrap --seccomp`, written by libseccomp for the machine's architecture. What is denied fails with EPERM.
"""

from __future__ import annotations

import errno
import functools
import tempfile

CLONE_NEWUSER = 0x10000000
"""The one kind of namespace that takes no capability."""

DENIED = (
    "acct", "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init",
    "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "mount", "mount_setattr", "move_mount", "move_pages", "name_to_handle_at",
    "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "personality", "pidfd_getfd", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setdomainname", "setns",
    "sethostname", "settimeofday", "swapoff", "swapon", "syslog", "umount", "umount2", "unshare", "uselib",
    "userfaultfd", "vhangup",
)  # fmt: skip

FAMILIES = (1, 2, 10)
"""Sockets that may be made: AF_UNIX, AF_INET, AF_INET6. Without a network they reach nobody outside."""


@functools.cache
def program() -> bytes:
    """Return the filter; ImportError or OSError without libseccomp."""
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
    with tempfile.TemporaryFile() as file:
        filters.export_bpf(file)
        file.seek(0)
        return file.read()
