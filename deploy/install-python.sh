#!/bin/bash
# Makes .venv in the checkout: what requirements.txt locks, hashes checked, and Sluicegate itself, editable.
# One of them, pymilter, is built here; Debian has what that takes.
. "$(dirname "$0")/setup.sh"

# find_python MODULES: the first interpreter that is new enough and has these modules.
find_python() {
    local python
    for python in python3 python3.11 python3.12 python3.13 python3.14; do
        if "$python" -c "import $1, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

too_old() {
    fail "Python 3.11 or newer is needed, and here is only $(python3 --version 2>&1)"
}

# has_headers: whether extension modules can be built for the interpreter in $python.
has_headers() {
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]
}

# install_compiler: what pymilter is built with, as far as it is not there. Debian calls the headers of
# python3.12 python3.12-dev; another Python has brought its own.
install_compiler() {
    local packages=()
    command -v gcc >/dev/null || packages+=(gcc libc6-dev)
    [ -e /usr/include/libmilter/mfapi.h ] || packages+=(libmilter-dev)
    has_headers || packages+=("$(basename "$python")-dev")
    [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
    has_headers || fail "$python has no Python.h, which pymilter is built with"
}

# Debian has what makes a venv in a package of its own, which brings Python along where there is none.
python=$(find_python ensurepip) || {
    if command -v python3 >/dev/null && ! find_python os >/dev/null; then too_old; fi
    install_packages python3-venv
    python=$(find_python ensurepip) || too_old
}
pip=(.venv/bin/pip --disable-pip-version-check)
if ! cmp --silent requirements.txt .venv/requirements.txt; then
    install_compiler
    run "making .venv with $("$python" --version)" "$python" -m venv --clear .venv ||
        fail "could not make .venv: $(why)"
    run "installing $(grep -c '^[a-z]' requirements.txt) locked Python packages" \
        "${pip[@]}" install --require-hashes -r requirements.txt ||
        fail "could not install the locked Python packages (no network?): $(why)"
    cp requirements.txt .venv/requirements.txt
fi
run 'installing Sluicegate itself' "${pip[@]}" install --no-deps --no-build-isolation --editable . ||
    fail "could not install Sluicegate into .venv: $(why)"
touch .venv/installed
