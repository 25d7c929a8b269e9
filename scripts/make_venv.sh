#!/usr/bin/env bash
# make_venv.sh VENV CONSTRAINTS WHAT...: an environment with what pip's arguments WHAT say, at the versions of a file.
# PYTHON chooses the interpreter, PIP_ARGS adds arguments to pip.
set -euo pipefail

venv=$1
constraints=$2
shift 2

fail() {
    echo "setup: $*" >&2
    exit 2
}

version_of() { # prints "3.11.7" where the interpreter runs, nothing otherwise
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [[ -n ${PYTHON:-} ]]; then
    python=$PYTHON
    [[ -n $(version_of "$python") ]] || fail "PYTHON=$python does not run; give the path of a Python 3.11 or newer"
    new_enough "$python" || fail "PYTHON=$python is Python $(version_of "$python"), but Likewise needs 3.11 or newer"
elif [[ -x $venv/bin/pip ]] && new_enough "$venv/bin/python"; then
    python=$venv/bin/python
else
    python=
    for name in python3.11 python3.12 python3.13 python3 python; do # 3.11 first: the pins are tested with it
        if new_enough "$name"; then
            python=$name
            break
        fi
    done
    if [[ -z $python ]]; then
        found=$(version_of python3)
        fail "found ${found:+only Python }${found:-no Python}, but Likewise needs 3.11 or newer;" \
            "install one, or name it: make setup PYTHON=/path/to/python3.11"
    fi
fi

if [[ $python != "$venv/bin/python" ]]; then
    echo "setup: making $venv with Python $(version_of "$python")"
    "$python" -m venv --clear "$venv" ||
        fail "Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv"
fi

echo "setup: installing the packages of $constraints (a few minutes the first time)"
# shellcheck disable=SC2086 # PIP_ARGS holds several words
"$venv/bin/python" -m pip install -qq --disable-pip-version-check ${PIP_ARGS:-} -c "$constraints" "$@" ||
    fail "pip could not install them; its message stands above"
echo "setup: $venv is ready"
