#!/bin/sh
# Install what is missing, build, and run the test suite.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh

need_tools
build -Dtests=true

say "testing"
failed=0
meson test -C build --no-rebuild --print-errorlogs </dev/null || failed=1
python3 tests/summary.py build/meson-logs/testlog.json
exit $failed
