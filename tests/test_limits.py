"""Limits that hold whatever calls are used; each attempt is a bounded stand-in for one that is not.

Where no control group can be had (`cgroup`) the tests of what only the kernel can bound are
skipped, by name; with ``CONTROL_GROUP`` in the environment that is an error, and weekly they run.
"""

import dataclasses
import os
import time

import assignment_fixture
import nbformat
import pytest
from very_deep_grader import __main__ as grade
from very_deep_grader import batch, bounds, cgroup, check, matching, sandbox
from very_deep_grader.inside import channel
from very_deep_grader.inside.codec import Decoder
from very_deep_grader.inside.time_limit import time_limit
from very_deep_grader.sandbox import Limits
from very_deep_grader.session import Session, StudentCrash
from very_deep_grader.source import Source

pytestmark = pytest.mark.grader
LIMITS = Limits(cell=20, call=2, submission=90, memory=3 * 2**29, processes=64)
assert cgroup.parent() or "CONTROL_GROUP" not in os.environ, "a control group was asked for"
needs_group = pytest.mark.skipif(not cgroup.parent(), reason="no control group can be had here")


@pytest.fixture(scope="module")
def session():
    """One worker for what it must survive."""
    sandbox.check()
    with Session(LIMITS) as session:
        yield session


# Calls that are denied --------------------------------------------------------------------

ATTEMPTS = {
    "a shared mapping of no file": "import mmap\nmmap.mmap(-1, 2**20)",
    "a mapping of /dev/zero": "import mmap\n"
    "with open('/dev/zero', 'r+b') as file:\n    mmap.mmap(file.fileno(), 2**20)",
    "semaphores": "semget(0, 32000, 0o600)",
    "a queue of messages": "msgget(0, 0o600)",
    "shared memory": "shmget(0, 2**20, 0o600)",
    "a file in memory": "import os\nos.memfd_create('x')",
    "a socket to the host": "import socket\nsocket.socket(40, socket.SOCK_STREAM)",
    "a socket of the kernel's ciphers": "import socket\nsocket.socket(38, socket.SOCK_SEQPACKET)",
}
LIBC = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name):
    def call(*args):
        if getattr(libc, name)(*args) == -1:
            raise OSError(ctypes.get_errno(), name)
    return call
semget, msgget, shmget = map(call, ("semget", "msgget", "shmget"))
"""


@pytest.mark.parametrize("code", ATTEMPTS.values(), ids=ATTEMPTS)
def test_memory_of_no_process_and_sockets_to_the_host_are_denied(session, code):
    _, error = session.run(LIBC + code)
    assert error and ("Error" in error), error


USES = {
    "a private mapping": "import mmap\nmmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE)",
    "a mapped file": "import mmap, tempfile\nwith tempfile.TemporaryFile() as file:\n"
    "    file.truncate(2**20)\n    mmap.mmap(file.fileno(), 2**20)",
    "pairs of sockets": "import socket\nsocket.socketpair()\nsocket.socket()",
    "zeros": "with open('/dev/zero', 'rb') as file:\n    assert file.read(4) == bytes(4)",
    "tensors between processes": "import torch\n"
    "data = torch.utils.data.TensorDataset(torch.arange(6))\n"
    "assert len(list(torch.utils.data.DataLoader(data, 2, num_workers=2))) == 3",
}


@pytest.mark.parametrize("code", USES.values(), ids=USES)
def test_what_a_course_uses_is_allowed(session, code):
    assert session.run(code)[1] is None


# The kernel's limits ----------------------------------------------------------------------

UNWAITED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        os._exit(0)
    time.sleep(0.06)
"""
FILES = """
import os
for name in ("/tmp/large", "/dev/shm/large"):
    with open(name, "wb") as file:
        for _ in range(240):
            file.write(bytes(2**20))
held = bytearray(b"1") * (150 * 2**20)
for n in range(10**7):
    os.close(os.open(f"/tmp/{n}", os.O_CREAT))
"""
SOCKETS = """
import os, socket, time
for _ in range(60):
    if os.fork() == 0:
        pairs = [socket.socketpair() for _ in range(100)]
        for end in sum(pairs, ()):
            end.setblocking(False)
            try:
                while True:
                    end.send(bytes(2**16))
            except OSError:
                pass
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
HELD = {
    "processes that nobody waits for": (UNWAITED, "of processor time"),
    "files in memory and their names": (FILES, "GiB of memory"),
    "buffers of sockets": (SOCKETS, "GiB of memory"),
}


@needs_group
@pytest.mark.parametrize(("code", "said"), HELD.values(), ids=HELD)
def test_the_kernel_counts_what_no_process_shows(code, said):
    cell = 3 if "time" in said else 120
    limits = dataclasses.replace(LIMITS, cell=cell, patience=20, memory=2**30)
    with Session(limits) as session:
        _, error = session.run(code)
        assert said in error
    assert not list(cgroup.parent().glob(f"submission-{os.getpid()}-*"))


@needs_group
def test_a_group_bounds_processes():
    with Session(dataclasses.replace(LIMITS, processes=20)) as session:
        _, error = session.run(
            "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n"
            "        time.sleep(3)\n        os._exit(0)"
        )
    assert error and "BlockingIOError" in error


def test_the_command_says_what_holds(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert grade.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert ("No control group" in told) != bool(cgroup.parent())


# The grader's own process -----------------------------------------------------------------


def decoded(tree):
    return Decoder([], lambda *_: None).decode(tree)


# Items of one hash: each new one is compared with all before.
COLLISIONS = {
    "integers": ["e", [["i", hex(n * (2**61 - 1))] for n in range(60_000)]],
    "complex": ["z", [["c", float(-1000003 * n).hex(), float(n).hex()] for n in range(100_000)]],
    "keys": ["d", [[["i", hex(n * (2**61 - 1))], ["n"]] for n in range(60_000)]],
}


@pytest.mark.parametrize("tree", COLLISIONS.values(), ids=COLLISIONS)
def test_decoding_is_ended(tree):
    began = time.process_time()
    limit = time_limit(bounds.TooLongError, user=0.5)
    with pytest.raises(channel.MalformedError), limit:
        decoded(tree)
    assert time.process_time() - began < 2


def test_an_answer_that_takes_long_to_decode_ends_the_worker_and_no_more(session, monkeypatch):
    monkeypatch.setattr(session, "limits", dataclasses.replace(LIMITS, call=1))
    session.run(
        "import sys\nfor name, module in list(sys.modules.items()):\n"
        "    if name.endswith('codec'):\n        plain = module.Encoder.encode\n"
        "        module.Encoder.encode = lambda self, value, depth=0: (\n"
        "            ['e', [['i', hex(n * (2**61 - 1))] for n in range(10**5)]]\n"
        "            if type(value) is tuple and value[0] is True else plain(self, value, depth))\n"
        "y = 5"
    )
    with pytest.raises(StudentCrash):
        session.get("y")
    session.done.clear()
    assert session.run("print(1)") == ("1\n", None)


def test_output_is_cut_where_it_arrives(session, monkeypatch):
    monkeypatch.setattr(session, "request", lambda *_: ("x" * 10**6, None))
    text, _ = session.run("")
    assert len(text) == bounds.TEXT
    monkeypatch.undo()
    png = b"\x89PNG\r\n\x1a\n"
    assert len(bounds.pictures([png] * 20 + [b"<svg>", 3, png + bytes(2**22)])) == bounds.PICTURES
    assert bounds.pictures("no list") == bounds.pictures([b"GIF89a", png + bytes(2**22)]) == []


@pytest.fixture
def source(tmp_path):
    """The small assignment."""
    path = tmp_path / "00_trial.ipynb"
    nbformat.write(assignment_fixture.assignment(), path)
    return Source(path)


@pytest.mark.parametrize(
    ("part", "limit"), [('"a",', matching.VALUES_LIMIT), ("[],", matching.PARTS_LIMIT)]
)
def test_a_notebook_of_too_many_small_parts_is_not_read(source, tmp_path, part, limit):
    folder = tmp_path / "in"
    folder.mkdir()
    source.released.metadata["small"] = ""
    text = nbformat.writes(source.released)
    assert '"small": ""' in text
    parts = "[" + part * limit + "1]"
    (folder / "ada_00_trial.ipynb").write_text(text.replace('"small": ""', f'"small": {parts}'))
    (found,) = batch.find(folder, [source])
    assert f"{limit:,}" in found.problem


def test_a_link_that_is_put_in_later_is_not_followed(source, tmp_path):
    secret, folder = tmp_path / "secret", tmp_path / "in"
    content = check.content(source.released)
    for place in (secret, folder / "ada", folder / "ben"):
        place.mkdir(parents=True)
        (place / "00_trial.ipynb").write_bytes(content)
    ada, ben = batch.find(folder, [source])
    assert ada.read() == content
    ada.path.unlink()
    ada.path.symlink_to(secret / "00_trial.ipynb")
    ben.path.unlink()
    ben.path.parent.rmdir()
    ben.path.parent.symlink_to(secret)
    for handed in (ada, ben):
        with pytest.raises(OSError):
            handed.read()
        result, keep = batch._grade(handed, LIMITS, True, ())
        assert result["problem"].startswith("can not be read") and not keep
