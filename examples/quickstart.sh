#!/bin/sh
# From a bare machine to a conversation: install what is missing, build, talk with calf.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh

need_tools
build

say "a conversation with calf:  python3 examples/calf/conversation.py"
python3 examples/calf/conversation.py

cat <<'END'

Go on yourself:

    build/examples/minke-chat examples/calf --temperature 0 --think --tools

calf is a small model that was trained for tasks like these; README.md tells how well it does.
Give minke-chat the folder of a released model (config.json, *.safetensors, tokenizer.json)
for conversations about anything.
END
