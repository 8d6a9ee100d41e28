#!/bin/sh
# Before the files go. Debian: remove, or upgrade; RPM: 0 for removal, 1 for an
# upgrade, which what runs survives.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --quiet disable --now popgate.service || true
	fi
	;;
esac
