"""The idle ticker of ``c/ticker.c`` where there is no C compiler. usage: python ticker_python.py CORE"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import suppress


def main() -> None:
    realtime = False
    with suppress(OSError):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        realtime = True
    print(json.dumps({"realtime": realtime}), flush=True)
    due, late, cpu, began = time.monotonic(), [], time.process_time(), time.monotonic()
    while True:
        due += 0.02
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        if not select.select([0], [], [], 0)[0]:
            continue
        if not os.read(0, 64):
            return
        late.sort()
        at = {share: round(late[min(int(share * len(late)), len(late) - 1)] * 1e3, 4) for share in (0.5, 0.99, 1.0)}
        figures = {"n": len(late), "p50": at[0.5], "p99": at[0.99], "max": at[1.0], "quantiles": sorted(at.items())}
        used = (time.process_time() - cpu) / (time.monotonic() - began)
        print(json.dumps({"late_ms": figures, "cpu": used, "realtime": realtime}), flush=True)
        due, late, cpu, began = time.monotonic(), [], time.process_time(), time.monotonic()


if __name__ == "__main__":
    main()
