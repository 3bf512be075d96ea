#!/bin/bash
# Installs the daemons that the demonstration, the tests and the benchmarks start privately: clamd,
# spamd and Postfix, with what Postfix needs to know passwords. Does nothing where they are there;
# never touches a system service.
. "$(dirname "$0")/setup.sh"

packages=()
command -v clamd >/dev/null || packages+=(clamav-daemon)
command -v spamd >/dev/null || packages+=(spamassassin spamd)
command -v postfix >/dev/null || packages+=(postfix)
command -v saslpasswd2 >/dev/null || packages+=(libsasl2-modules libsasl2-modules-db sasl2-bin)
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"

for command in clamd spamd postfix postconf saslpasswd2 smtp-source smtp-sink; do
    command -v "$command" >/dev/null || fail "$command is missing though its package is installed"
done
