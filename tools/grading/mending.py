"""How to mend a machine on which the sandbox does not start, in words; imports nothing."""

MENDING = """\
Bubblewrap keeps a submission from the file system, the network and other processes.
  Debian, Ubuntu:  sudo apt install bubblewrap
  Fedora:          sudo dnf install bubblewrap
Where it is installed but can not start, user namespaces are switched off:
  Ubuntu 24.04 on: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
  older Debian:    sudo sysctl -w kernel.unprivileged_userns_clone=1
In a container, allow it to make namespaces (Docker: --security-opt seccomp=unconfined).
On macOS and Windows grade in a Linux machine, real or virtual.
--no-sandbox (make grade GRADE=--no-sandbox ...) runs submissions with limits only: their code
can then read and delete whatever you can, the hidden tests and other submissions included."""
