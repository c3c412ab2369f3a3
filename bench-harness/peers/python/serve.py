"""A peer: the conversation of bench-harness/src/peers/protocol.rs for a library of Python's.

    python serve.py ADAPTER MODE

Executions are called from Python; what that costs (about a microsecond) is measured with them, as for every user of the library.
"""

import gc
import importlib
import json
import os
import resource
import sys
import time

import numpy as np

from peer import Declined, Problem


def serve(adapter, mode, requests, replies):
    """Answers until `bye`."""
    state = {"operator": None, "result": None}

    def answer(request):
        do = request["do"]
        if do == "hello":
            threads = adapter.threads(request["threads"])
            return {"reply": "hello", "protocol": 1, "name": adapter.NAME, "version": adapter.VERSION, "threads": threads}
        if do == "prepare":
            state["operator"] = state["result"] = None
            problem = Problem(request)
            operator = state["operator"] = adapter.prepare(problem, mode)
            reply = {"reply": "prepared", "plan_ns": time.perf_counter_ns() - problem.started}
            return reply | ({"implementation": operator.implementation} if operator.implementation else {})
        if do == "release":
            state["operator"] = state["result"] = None
            return {"reply": "released"}
        operator = state["operator"]
        if operator is None:
            raise RuntimeError(f"nothing is prepared for {do}")
        if do == "run":
            state["result"] = None  # or two outputs would be alive at a time
            reply, state["result"] = _run(operator.run, request["k"])
            return reply
        if do == "fetch":
            np.ascontiguousarray(operator.output(state["result"]), dtype="<f4").tofile(request["output"])
            return {"reply": "fetched"}
        raise RuntimeError(f"unknown request {do}")

    for line in requests:
        request = json.loads(line)
        if request["do"] == "bye":
            break
        try:
            reply = answer(request)
        except Declined as why:
            reply = {"reply": "declined", "declined": str(why)}
        except Exception as error:  # pylint: disable=broad-except
            reply = {"reply": "failed", "failed": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(reply), file=replies, flush=True)


def _run(run, k):
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter_ns()
    for _ in range(k - 1):
        run()
    result = run()
    wall = time.perf_counter_ns() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    reply = {
        "reply": "ran",
        "runs": k,
        "wall_ns": wall,
        "cpu_ns": int(cpu * 1e9),
        "switches": after.ru_nivcsw - before.ru_nivcsw,
        "faults": after.ru_minflt - before.ru_minflt,
    }
    return reply, result


def main():
    # Whatever the library prints, also while it is loaded, goes to standard error.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    gc.disable()
    adapter = importlib.import_module(f"adapters.{sys.argv[1]}")
    serve(adapter, sys.argv[2] if len(sys.argv) > 2 else "", sys.stdin, replies)
    # Threads of a library may take long to end, and nobody waits for them.
    os._exit(0)


if __name__ == "__main__":
    main()
