#!/bin/sh
# From a bare machine to text out of a model: install what is missing, build, generate.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh

need_tools
build

model=build/random-model
if [ ! -f "$model/model.safetensors" ]; then
    say "making a small random model in $model"
    python3 examples/make_random.py "$model"
fi

say "what is in it:  build/examples/minke-inspect $model"
build/examples/minke-inspect "$model" --context 4096

say "generating:  build/examples/minke-generate $model 'The whale dives'"
build/examples/minke-generate "$model" 'The whale dives' --max-tokens 48 --temperature 0.8 \
    --seed 1 --ignore-eos
cat <<'END'

The text is noise, because the weights are random numbers: it shows that loading, the
forward pass and sampling work.  Give minke-generate the folder of a released model
(config.json, *.safetensors, tokenizer.json) for text that means something.
END
