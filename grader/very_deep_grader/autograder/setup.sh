#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y bubblewrap python3-venv
python3 -m venv /autograder/environment
/autograder/environment/bin/pip install /autograder/source/package /autograder/source/grader
