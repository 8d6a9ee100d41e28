#!/usr/bin/env bash
# Compares popgate with Dovecot's POP3 gateway (imapc), Dovecot's own POP3 and a
# raw IMAP client, on this machine, and prints the table of the README.
#
#   ./deploy/bench/run.sh [-rounds N] [-work REGEXP] [-only REGEXP] [-quick] [-write deploy/bench]
#
# It needs Debian 12 with Go and apt, and root. It installs Dovecot and Cyrus if
# they are missing, and starts no service by that. Servers run from one temporary folder,
# on 127.0.0.1 alone, and end with this script.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo 'run.sh: needs root' >&2; exit 1; }
. deploy/packages.sh
ulimit -n "$(ulimit -Hn)"
tmp=$(mktemp -d /tmp/popgate.XXXXXX)
trap 'restore_policy; rm -rf --one-file-system "$tmp"' EXIT
install_packages dovecot-imapd dovecot-pop3d cyrus-common cyrus-caldav sasl2-bin libsasl2-modules libsasl2-modules-db
unpack_packages cyrus-imapd
go build -buildvcs=false -o "$tmp/popgate" ./cmd/popgate
go build -buildvcs=false -o "$tmp/bench" ./deploy/bench
chmod 755 "$tmp"
"$tmp/bench" -dir "$tmp" -popgate "$tmp/popgate" "$@"
