#!/bin/bash
# Installs the daemons that the demonstration, the tests and the benchmarks start privately: clamd,
# spamd and Postfix. Does nothing where they are there; never touches a system service.
. "$(dirname "$0")/setup.sh"

packages=()
command -v clamd >/dev/null || packages+=(clamav-daemon)
command -v spamd >/dev/null || packages+=(spamassassin spamd)
command -v postfix >/dev/null || packages+=(postfix)
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"

for command in clamd spamd postfix postconf smtp-source smtp-sink; do
    command -v "$command" >/dev/null || fail "$command is missing though its package is installed"
done
