"""What runs inside the sandbox: the worker that executes a student's cells, and its wire format.

Only this folder and ``vgglib`` are mounted there. It holds no secret: a student's code may read,
patch or replace every line of it in its own process. The trusted side imports `channel` and `codec`
too, from its own copy, and believes nothing that arrives.
"""
