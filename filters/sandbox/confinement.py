"""What a worker process gives up before it looks at anything: memory, files, network, processes.

Linux only. Each step is one that the process cannot take back. What the kernel refuses is left out
and named, so that the operator can be told.
"""

import ctypes
import os
import platform
import resource
import signal
import struct

from filters.sandbox.limits import CONFINED

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65
_MDWE_REFUSE_EXEC_GAIN = 1
_SECCOMP_MODE_FILTER = 2

# Classic BPF over struct seccomp_data: the number of the call, and whose numbers these are.
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL, _ALLOW, _NOT_PERMITTED = 0x8000_0000, 0x7FFF_0000, 0x0005_0001
_INSTRUCTION = struct.Struct("HBBI")

# Audit architectures, and where their numbers stand in the table below.
_MACHINES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
# What computing in memory needs, and reading and writing what is open already; all else is refused:
# opening, connecting, forking, executing, signalling.
_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
}

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def die_with_parent() -> None:
    """Be killed when the gateway is. Who has lost it already reads the end of standard input."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_resources(memory: int, cpu_seconds: int) -> None:
    """Bounds for the rest of the process's life; `memory` in octets of address space."""
    os.closerange(3, 4096)
    for what, bound in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(what, (bound, bound))


def confine() -> str:
    """Give up whatever is not computing. From here on nothing can be opened or imported.

    Returns what was done, for people.
    """
    _prctl(_PR_SET_DUMPABLE, 0)
    # No memory that was written is executed; older kernels cannot, and it is no more than a second lock.
    _prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN)
    if not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return "no confinement: the kernel refused it"
    machine = platform.machine()
    if machine not in _MACHINES:
        return f"no confinement: system calls of {machine} are not known"
    architecture, column = _MACHINES[machine]
    program = _program(architecture, [numbers[column] for numbers in _CALLS.values()])
    described = _Program(len(program) // _INSTRUCTION.size, program)
    if not _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(described)):
        return "no confinement: the kernel has no seccomp filters"
    return CONFINED


def _program(architecture: int, calls: list[int]) -> bytes:
    """The filter. Another architecture's call kills; one that is not listed is not permitted."""
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for number in calls:
        instructions += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    instructions.append((_RETURN, 0, 0, _NOT_PERMITTED))
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _prctl(option: int, *values: int) -> bool:
    """Whether the kernel did it."""
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return int(_libc.prctl(option, *arguments)) == 0
