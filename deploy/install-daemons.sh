#!/bin/bash
# Installs the daemons that the demonstration, the tests and the benchmarks start privately: clamd,
# spamd, Rspamd, c-icap and Postfix, with what Postfix needs to know passwords and the libraries that look
# into attachments; miltertest, which plays an MTA, and other people's milters to compare with. Does nothing
# where they are there; never touches a system service.
. "$(dirname "$0")/setup.sh"

packages=()
command -v clamd >/dev/null || packages+=(clamav-daemon)
command -v spamd >/dev/null || packages+=(spamassassin spamd)
command -v postfix >/dev/null || packages+=(postfix)
command -v saslpasswd2 >/dev/null || packages+=(libsasl2-modules libsasl2-modules-db sasl2-bin)
command -v rspamd >/dev/null || packages+=(rspamd)
command -v c-icap >/dev/null || packages+=(c-icap libc-icap-mod-virus-scan)
command -v miltertest >/dev/null || packages+=(miltertest)
command -v clamav-milter >/dev/null || packages+=(clamav-milter)
command -v spamass-milter >/dev/null || packages+=(spamass-milter)
ldconfig -p | grep -q 'libmagic\.so\.1' || packages+=(libmagic1)
ldconfig -p | grep -q 'libarchive\.so\.13' || packages+=(libarchive13)
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"

for command in clamd spamd rspamd c-icap postfix postconf saslpasswd2 smtp-source smtp-sink \
    miltertest clamav-milter spamass-milter; do
    command -v "$command" >/dev/null || fail "$command is missing though its package is installed"
done
