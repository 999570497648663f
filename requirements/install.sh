#!/usr/bin/env bash
# Makes or repairs .venv and installs requirements/lock.txt and this project into it.
# Called by `make setup`; PYTHON chooses the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

fail() { printf 'set-up: %s\n' "$1" >&2; exit 2; }
# Exit status 0 if this interpreter starts and the locked packages have wheels for it.
is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }
# The folder $1 has $2 GB free, or set-up ends here; $3 says what takes them and what to do.
needs_room() {
    local kib
    kib=$(df -Pk "$1" | awk 'NR == 2 {print $4}')
    (( kib >= $2 * 1000000 )) || fail "$1 has $(( kib / 1000000 )) GB free and $3"
}

command -v "$python" >/dev/null || fail "'$python' is not on PATH; install Python 3.11, 3.12 or 3.13"
is_supported "$python" || fail "moca's lock is for Python 3.11 to 3.13, but '$python' is $("$python" -V 2>&1); \
choose another one with: make setup PYTHON=python3.12"

if command -v uv >/dev/null; then
    # A venv that uv made has no pip, and needs none.
    is_supported .venv/bin/python || uv venv --quiet --clear --python "$python" .venv
    install=(uv pip install --quiet --python .venv/bin/python)
else
    if ! is_supported .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv \
            || fail "'$python -m venv' failed; on Debian and Ubuntu: apt install python3-venv"
    fi
    if ! compgen -G '.venv/lib/python3*/site-packages/torch' >/dev/null; then
        # Seen on Python 3.11: 8 GB at most, 6 at the end; pip keeps its downloads until all are in.
        needs_room "$PWD" 9 'the environment takes 9 while it is installed: clone where there is room'
        needs_room "${TMPDIR:-/tmp}" 4 'the downloads take 4: set TMPDIR to a folder with room'
    fi
    # -qq: errors only; a machine's package mirrors may warn once a package.
    install=(.venv/bin/python -m pip install -qq --disable-pip-version-check)
fi

echo 'set-up: installing requirements/lock.txt into .venv (about 3 GB the first time)'
"${install[@]}" -r requirements/lock.txt
# The lock holds setuptools, so building needs neither isolation nor another download.
# As a path: setuptools' import hook comes after the current folder, where a clone named moca would
# pass for the package.
"${install[@]}" --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
echo 'set-up: ready; source .venv/bin/activate, or .venv/bin/python for python'
