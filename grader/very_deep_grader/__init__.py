"""Grades assignments without trusting what it grades.

A submission is a program by somebody else. nbgrader's own autograder runs the tests in the kernel
that has run the student's cells, so that a submission can patch what the tests use, print a result
or read the hidden tests, and it reports a notebook whose metadata is lost as 0 points. Therefore
nbgrader makes the student versions here (`source`), and grading is done in two processes:

    examiner (trusted)                           worker (in a sandbox, `sandbox`)
    holds the source with its hidden tests,      executes the student's cells,
    runs the test cells, decides, scores         knows nothing else
              |                                            |
              |  call anatomy("D")  -- pickled arguments ->|
              |<-- result as JSON and raw buffers --       |

In a test cell, ``anatomy`` is a proxy (`session`). Results arrive as plain data of exact
types (`inside.codec`). So a submission can say whatever it likes as the answer to a
question, and nothing else.

Modules: `source` reads an assignment, `matching` finds its cells in a submission, `examine` grades
one submission, `batch` a folder of them, `feedback` writes the pages, `check` tries an assignment,
`effects` is for tests: what does a call change, and which functions does it call?
"""

__version__ = "0.1.0"
