# Installs Debian packages and starts no service by that. For scripts to source:
# they set tmp, a temporary folder of theirs, call install_packages, and call
# restore_policy when they end.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || die 'needs Debian'
sudo=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || die 'needs root, or sudo'
	sudo=(sudo)
fi

policy=/usr/sbin/policy-rc.d

# deny_services lets packages install without starting anything.
deny_services() {
	if "${sudo[@]}" test -e "$policy"; then "${sudo[@]}" mv "$policy" "$tmp/policy-rc.d"; fi
	printf '#!/bin/sh\nexit 101\n' >"$tmp/deny"
	: >"$tmp/denied"
	"${sudo[@]}" install -m 755 "$tmp/deny" "$policy"
}

restore_policy() {
	[ -e "$tmp/denied" ] || return 0
	if [ -e "$tmp/policy-rc.d" ]; then "${sudo[@]}" mv "$tmp/policy-rc.d" "$policy"; else "${sudo[@]}" rm -f "$policy"; fi
	rm -f "$tmp/denied"
}

apt() {
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qq -y \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$tmp/apt.log" 2>&1
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

updated=
update() {
	[ -z "$updated" ] || return 1
	updated=1
	echo 'apt-get update'
	apt update
}

# install_packages installs those of the named packages that are missing.
install_packages() {
	local package missing=()
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	# Cyrus and Courier ask for some mail transport agent; this one is small and
	# runs no daemon. It stays out where there is one already.
	if ! dpkg-query -W -f '${db:Status-Status} ${Provides}\n' | grep -q '^installed.*mail-transport-agent'; then
		missing+=(msmtp-mta)
	fi
	say "Installing ${#missing[@]} Debian packages"
	printf '%s\n' "${missing[*]}" | fold -s -w 78
	deny_services
	install_missing() { apt --no-install-recommends --no-remove install "${missing[@]}"; }
	install_missing || { update && install_missing; } || { tail -n 30 "$tmp/apt.log"; die 'apt-get failed'; }
	restore_policy
}

# unpack_packages unpacks packages that Debian does not install beside others, each
# into $tmp/unpacked, under its name without what is behind the first dash.
unpack_packages() {
	say "Unpacking $* into the temporary folder"
	mkdir -p "$tmp/debs" "$tmp/unpacked"
	download() { (cd "$tmp/debs" && apt download "$@"); }
	download "$@" || { update && download "$@"; } || { tail -n 30 "$tmp/apt.log"; die 'apt-get download failed'; }
	local package
	for package in "$@"; do
		dpkg -x "$tmp"/debs/"$package"_*.deb "$tmp/unpacked/${package%%-*}"
	done
}
