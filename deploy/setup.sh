# Sourced by the install scripts: says what is going on, runs things quietly, installs packages.
# Bash; nothing here starts, stops or configures a system service.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps daemons, and not in everybody's PATH
export LC_ALL=C.UTF-8

# fail TEXT...: one line on standard error, and the end of it.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# run WHAT COMMAND...: run the command with its output in $RUN_LOG, and show that time passes.
# Returns the command's status.
run() {
    local what=$1 started=$SECONDS status=0 pid
    shift
    RUN_LOG=$(mktemp -t sluicegate-setup.XXXXXX)
    "$@" >"$RUN_LOG" 2>&1 </dev/null &
    pid=$!
    if [ -t 1 ]; then
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r%s ... %d s' "$what" $((SECONDS - started))
            sleep 0.2
        done
        printf '\r'
    else
        printf '%s ...\n' "$what"
    fi
    wait "$pid" || status=$?
    if [ "$status" -eq 0 ]; then
        printf '%s: done in %d s\n' "$what" $((SECONDS - started))
        rm -f "$RUN_LOG"
    fi
    return "$status"
}

# why: the line of the failed command's output that says most, and where the rest is.
why() {
    local line
    line=$(grep -iE '^(E:|error)' "$RUN_LOG" | tail -n 1) || line=$(tail -n 1 "$RUN_LOG")
    printf '%s (everything it said: %s)' "$line" "$RUN_LOG"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Ask for the password now if one is needed, not in the middle of a progress line.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || fail "$1 must be installed, but this is not root and there is no sudo"
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi ||
        fail "$1 must be installed, but sudo does not let $(id -un) in; run it as root once"
}

# Units that are started at boot, and System V's scripts, which systemd starts as units of their name.
enabled_units() {
    command -v systemctl >/dev/null || return 0
    {
        systemctl --root=/ list-unit-files --state=enabled --no-legend 2>/dev/null | awk '{print $1}'
        { ls /etc/rc2.d 2>/dev/null || true; } | sed -n 's/^S[0-9][0-9]\(.*\)/\1.service/p'
    } | sort -u
}

# install_packages PACKAGE...: Debian packages, without their services: nothing is started now, and
# what the packages enable for the next boot is disabled again. Never removes a package: Postfix
# would replace another MTA.
install_packages() {
    command -v apt-get >/dev/null || fail "$* must be installed, and there is no apt-get to do it"
    become_root "$*"
    local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    local units stale=''
    units=$(enabled_units)
    keep_services_down
    echo 'postfix postfix/main_mailer_type select No configuration' | as_root debconf-set-selections
    run 'apt-get update' "${apt[@]}" -o APT::Update::Error-Mode=any update ||
        stale="; the package lists could not be refreshed (no network?): $(why)"
    run "apt-get install $*" "${apt[@]}" install --yes --no-remove --no-install-recommends "$@" ||
        fail "could not install $*: $(why)$stale"
    local enabled
    enabled=$(comm -13 <(echo "$units") <(enabled_units))
    # shellcheck disable=SC2086  # one word per unit
    [ -z "$enabled" ] || as_root systemctl --root=/ disable --quiet $enabled
}

# policy-rc.d is how a Debian machine says that package scripts must not start services.
keep_services_down() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    trap "as_root rm -f $policy" EXIT
    printf '#!/bin/sh\n# Temporary: placed by %s of Sluicegate while it installs packages.\nexit 101\n' "$0" |
        as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}
