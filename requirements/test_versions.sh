#!/usr/bin/env bash
# Runs tests with other releases than lock.txt's, in .venv-oldest or .venv-newest.
# Called by `make test-oldest` and `make test-newest`. PYTHON chooses the interpreter, TESTS what
# pytest is given ("tests" for all); docs/versions.md says what came of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
which=$1
python=${PYTHON:-python3}
venv=.venv-$which
# What leans most on torch, torchvision, timm and transformers, and every import.
some='tests/test_rooms.py tests/ops tests/backbone/test_vit.py tests/engine/test_amp.py
tests/checkpoints/test_checkpoint.py tests/images/test_transforms.py tests/eomt/test_network.py
tests/predict/test_predictor.py tests/evaluation/test_knn.py'

# What the environment was made of: another interpreter or other bounds make it anew, and so does
# another day for `newest`, which may have newer releases by then.
made_of=$("$python" -V; cat requirements/{"$which",runtime,tests,lock}.txt pyproject.toml | cksum
    if [[ $which == newest ]]; then date +%F; fi)
if [[ $(cat "$venv/.setup-complete" 2>/dev/null || true) != "$made_of" ]]; then
    kib=$(df -Pk . | awk 'NR == 2 {print $4}')
    if (( kib < 12000000 )); then
        echo "test-$which: $venv and its downloads take 12 GB, $PWD has $((kib / 1000000)) free" >&2
        exit 2
    fi
    "$python" -m venv --clear "$venv"
    # The lock, but for torch, timm and what comes with them. As a constraint of the machine's, should
    # it have one: pip takes the variable in the place of its file.
    grep -vE '^(#|(torch|torchvision|timm|sympy|triton|nvidia-[^=]*|cuda-[^=]*)==)' \
        requirements/lock.txt > "$venv/constraints.txt"
    echo "test-$which: installing requirements/$which.txt into $venv (about 3 GB)"
    install=("$venv/bin/python" -m pip install -qq --disable-pip-version-check)
    PIP_CONSTRAINT="$venv/constraints.txt" "${install[@]}" \
        -r "requirements/$which.txt" -r requirements/runtime.txt -r requirements/tests.txt setuptools
    "${install[@]}" --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
    echo "$made_of" > "$venv/.setup-complete"
fi
"$venv/bin/python" - <<'PY'
import platform
from importlib.metadata import version

names = ('torch', 'torchvision', 'timm', 'transformers', 'numpy')
print(f'Python {platform.python_version()},', ', '.join(f'{n} {version(n)}' for n in names))
PY
read -ra tests <<< "${TESTS:-${some//$'\n'/ }}"
# What a library means to drop and one of our modules uses is an error here.
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider -m 'not slow and not gpu' \
    -o 'filterwarnings=error::FutureWarning:moca\.' "${tests[@]}"
