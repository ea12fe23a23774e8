"""All tests in two lanes at once: those on real Ray, which mostly wait, and beside them, giving way, all others."""

import subprocess
import sys
import tempfile

LANES = {"ray": 0, "rest": 10}
"""How much each gives way to other processes: what runs on real Ray is timed by Ray."""


def main() -> int:
    """Run both; print the first as it goes and the second when it is done; return the first bad exit code, or 0."""
    with tempfile.TemporaryFile("w+") as kept:
        command = [sys.executable, "-m", "pytest"]
        rest = subprocess.Popen(["nice", "-n", str(LANES["rest"]), *command, "--lane", "rest"], stdout=kept, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.call([*command, "--lane", "ray"]), rest.wait()]
        finally:
            rest.terminate()
            rest.wait()
        kept.seek(0)
        sys.stdout.write(kept.read())
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    raise SystemExit(main())
