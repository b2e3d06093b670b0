"""Runs a command and says what it took: `measured.py COMMAND…`. Exits as it does."""

import resource
import subprocess
import sys
import time

begun = time.monotonic()
status = subprocess.run(sys.argv[1:], check=False).returncode
took = time.monotonic() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(
    f"{' '.join(sys.argv[1:])}: {took:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU, "
    f"largest process {used.ru_maxrss / 1024:.0f} MiB",
    flush=True,
)
sys.exit(status if status >= 0 else 1)
