#!/bin/sh
# After the files are gone. Debian: remove, upgrade, purge; RPM: 0 for removal.
set -e
case $1 in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	;;
esac

# Tokens are secrets: they do not stay behind a purge. The user stays, because files
# elsewhere may be its, and its number must not become another's.
if [ "$1" = purge ]; then
	rm -rf --one-file-system /var/lib/popgate /var/cache/popgate
	rmdir --ignore-fail-on-non-empty /etc/popgate 2>/dev/null || true
fi
