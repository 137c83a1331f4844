#!/bin/sh
# prelink.sh OBJCOPY INPUT.a OUTPUT.a WORKDIR CC...: one object, hidden names made local.
set -eu
objcopy=$1 input=$2 output=$3 work=$4
shift 4
mkdir -p "$work"
rm -f "$output"
"$@" -nostdlib -r -o "$work/minke.o" -Wl,--whole-archive "$input" -Wl,--no-whole-archive
"$objcopy" --localize-hidden "$work/minke.o"
ar rcs "$output" "$work/minke.o"
