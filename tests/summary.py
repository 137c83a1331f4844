"""What meson test did, so that nothing is skipped in silence.

summary.py TESTLOG.json...: prints why tests were skipped and, last, one line of counts.
"""

import json
import re
import sys

# What tests/test.h and unittest print for a skipped test, and for the number that ran.
C_SKIP = re.compile(r"^skip: (.*)$", re.M)
C_COUNT = re.compile(r"^(\d+) tests, (\d+) skipped$", re.M)
PYTHON_SKIP = re.compile(r"^(\w+) .*\.\.\. skipped ['\"](.*)['\"]$", re.M)
PYTHON_COUNT = re.compile(r"^Ran (\d+) tests? in", re.M)


def count(test: dict) -> "tuple[int, int, list[str]]":
    """Tests passed, failed, and the reasons of those skipped, in one program."""
    text = test.get("stdout", "") + "\n" + test.get("stderr", "")
    skips = C_SKIP.findall(text) + [f"{name}: {why}" for name, why in PYTHON_SKIP.findall(text)]
    ran = max([int(n[0] if isinstance(n, tuple) else n)
               for n in C_COUNT.findall(text) + PYTHON_COUNT.findall(text)] or [1])
    if test["result"] == "SKIP":
        lines = [line for line in text.splitlines() if line.strip()]
        return 0, 0, skips or [lines[-1] if lines else "the whole program"]
    if test["result"] not in ("OK", "EXPECTEDFAIL"):
        return 0, 1, skips
    return max(ran - len(skips), 0), 0, skips


def main() -> None:
    passed = failed = skipped = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as lines:
            for test in map(json.loads, lines):
                good, bad, skips = count(test)
                passed, failed, skipped = passed + good, failed + bad, skipped + len(skips)
                for why in skips:
                    print(f"skipped: {test['name']}: {why}")
                if bad:
                    print(f"failed: {test['name']}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")


main()
