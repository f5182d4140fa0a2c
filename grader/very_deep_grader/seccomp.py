"""A filter of system calls for the sandbox, as bubblewrap takes it (``--seccomp``).

It denies what a course's code never needs: memory that belongs to no process (``memfd_create``,
what System V shares, shared mappings of no file), kinds of sockets beside those of the internet and
of the machine, further namespaces, and calls that have been ways out of sandboxes.
"""

import contextlib
import os
import platform
import struct

# Numbers of (x86-64, aarch64) from the kernel's tables; None where the call does not exist.
DENIED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
CLONE, MMAP, SOCKET = (56, 220), (9, 222), (41, 198)
CLONE3 = 435
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH
CLONE_NEWUSER = 0x10000000
SHARED_ANONYMOUS = 0x21
FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
# Offsets in struct seccomp_data.
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, FOURTH_ARGUMENT = 0, 4, 16, 40


def program():
    """The filter as bytes of BPF."""
    column, architecture = MACHINES[platform.machine()]
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, 0x40000000),  # x86-64's second table of calls, x32
        (RETURN, 0, 0, ERROR | ENOSYS),
        # glibc does without clone3, whose flags a filter can not read.
        (EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, ERROR | ENOSYS),
    ]
    for numbers in DENIED.values():
        code += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERROR | EPERM)]
    families = [(EQUAL, 4 - n, 0, family) for n, family in enumerate(FAMILIES)]
    shared = [(AND, 0, 0, SHARED_ANONYMOUS), (EQUAL, 0, 1, SHARED_ANONYMOUS)]
    code += _unless(SOCKET[column], FIRST_ARGUMENT, families, EAFNOSUPPORT)
    code += _unless(MMAP[column], FOURTH_ARGUMENT, shared, EPERM)
    code += _unless(CLONE[column], FIRST_ARGUMENT, [(ANY_BIT, 0, 1, CLONE_NEWUSER)], EPERM)
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _unless(number, argument, checks, error):
    """Deny a call unless the checks of one of its arguments jump over the next instruction."""
    code = [(LOAD, 0, 0, argument), *checks, (RETURN, 0, 0, ERROR | error), (RETURN, 0, 0, ALLOW)]
    return [(EQUAL, 0, len(code), number), *code]


@contextlib.contextmanager
def descriptors():
    """Give bubblewrap a file descriptor to read the filter from, in a list.

    It is empty on a machine whose numbers are not known here.
    """
    if platform.machine() not in MACHINES:
        yield []
        return
    reading, writing = os.pipe()
    with open(reading, "rb", 0), open(writing, "wb", 0) as file:
        file.write(program())
        file.close()
        yield [reading]
