#!/bin/sh
# After the files are in place. Debian: configure, and the version that was there
# before; RPM: 1 the first time, 2 for an upgrade.
set -e
case $1 in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

if ! getent passwd popgate >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/popgate --no-create-home \
		--shell /usr/sbin/nologin --comment 'POP3 gateway' popgate
fi

# Nothing is started that was not running: the configuration has to be written
# first. What runs hands its sockets to the new version, and no session is lost.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if systemctl --quiet is-active popgate.service; then
		systemctl reload popgate.service || true
	fi
fi

if ! popgate check --config /etc/popgate/popgate.yaml >/dev/null 2>&1; then
	cat <<'end'
popgate is installed and not running. Set upstream.url in /etc/popgate/popgate.yaml, then:

    popgate check --config /etc/popgate/popgate.yaml
    systemctl enable --now popgate
end
fi
