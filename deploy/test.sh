#!/usr/bin/env bash
# Runs every test of popgate: formatting, vet, the Go tests under the race
# detector, the packages (deploy/package.sh) and what they are installed from, the
# quick level of the proofs (cmd/prove), and the tests against real mail servers
# (Dovecot, Cyrus, Courier) with real POP3 clients, through HAProxy and beside nginx
# too.
#
#   ./deploy/test.sh
#
# It needs Debian 12 with Go and apt, and root or sudo. It installs what is
# missing and says so; no service is started by that. Servers and clients run
# from one temporary folder, on 127.0.0.1 alone, and end with this script.
#
#   KEEP=1               keeps the temporary folder
#   RUN=REGEXP           runs only these of the real tests, such as TestClients/cyrus/mutt
#   POPGATE_FRONT=dovecot  tests the tests: Dovecot's POP3 takes the gateway's place
set -euo pipefail
cd "$(dirname "$0")/.."

# What the tests use, by its Debian name.
packages=(
	gcc libc6-dev                                        # race detector
	strace                                               # kills the gateway in the middle of a system call
	rpm systemd iproute2 procps                          # packages are installed in a copy of the file system; systemd judges the unit
	buildah                                              # builds the image of the container
	zsh fish groff-base                                  # complete the command line, and read the manual page
	dovecot-imapd dovecot-pop3d                          # Dovecot
	cyrus-common cyrus-caldav sasl2-bin libsasl2-modules libsasl2-modules-db  # Cyrus
	courier-base courier-authlib courier-authlib-userdb  # Courier
	haproxy openssl                                      # a proxy in front, and a client that still speaks TLS 1.0
	prometheus                                           # reads the metrics, and raises the alerts of deploy/prometheus
	nginx-light libnginx-mod-mail                        # the other one that asks an auth_http service
	libnginx-mod-stream getmail6 mpop                    # what the pages of deploy/docs show, with fetchmail, curl, HAProxy and Dovecot
	chromium                                             # looks at the status page
	bsdutils curl fetchmail mutt s-nail sylpheed xvfb    # clients; script(1) is mutt's terminal
	python3 perl libio-socket-ssl-perl libauthen-sasl-perl
	openjdk-17-jre-headless libecj-java libjakarta-mail-java
)

[ "$(uname -s)" = Linux ] || { echo 'test.sh: the real-server tests need Debian; "go test ./..." runs the others anywhere' >&2; exit 1; }
. deploy/packages.sh
command -v go >/dev/null || die 'Go is not in PATH'

# The servers put UNIX sockets below it, so its path must be short.
tmp=$(mktemp -d /tmp/popgate.XXXXXX)
chmod 755 "$tmp"
mkdir "$tmp/pids"
closing=

cleanup() {
	local status=$? file pid
	trap - EXIT INT TERM
	# Where the tests were killed, their servers are still there.
	for file in "$tmp"/pids/*; do
		[ -f "$file" ] || continue
		pid=$(cat "$file")
		"${sudo[@]}" bash -c 'kill -TERM -- "-$1"' bash "$pid" 2>/dev/null || true
	done
	restore_policy
	if [ -d /etc/courier ]; then
		# The lock is free unless another run of the tests owns these files.
		"${sudo[@]}" flock -n /etc/courier bash -c '
			for saved in /etc/courier/*.popgate-saved; do
				file=${saved%.popgate-saved}
				if [ -L "$saved" ]; then rm -f "$file" "$saved"; elif [ -f "$saved" ]; then mv "$saved" "$file"; fi
			done' || true
	fi
	if [ -n "${KEEP:-}" ]; then echo "kept: $tmp"; else "${sudo[@]}" rm -rf --one-file-system "$tmp"; fi
	[ -z "$closing" ] || printf '\n%s\n' "$closing"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- packages -----------------------------------------------------------------

install_packages "${packages[@]}"

unpack_packages cyrus-imapd cyrus-pop3d courier-imap

# --- what needs no servers ------------------------------------------------------

failed=()
step() { # name command...
	local name=$1
	shift
	say "$name"
	"$@" || { failed+=("$name"); echo "FAILED: $name"; }
}
formatted() { local files; files=$(gofmt -l .); [ -z "$files" ] || { printf 'gofmt: %s\n' $files; return 1; }; }

step 'go build' go build -buildvcs=false -o "$tmp/popgate" ./cmd/popgate
[ -x "$tmp/popgate" ] || [ -n "${POPGATE_FRONT:-}" ] || exit 1
[ ! -x "$tmp/popgate" ] || step 'popgate demo --once' sh -c '"$1" demo --once >"$2" || { cat "$2"; exit 1; }' sh "$tmp/popgate" "$tmp/demo.log"
step 'gofmt -l' formatted
step 'go vet ./...' go vet ./...
step 'go test -race -shuffle=on -count=1 ./...' env CGO_ENABLED=1 go test -race -shuffle=on -count=1 ./...

# What popgate is installed from. The tools have a Go module of their own.
step 'deploy/package.sh' ./deploy/package.sh
step 'go test ./... in deploy/package' go -C deploy/package test -count=1 ./...

# M23, the whole suite under the race detector, has just run.
step 'go run ./cmd/prove' go run ./cmd/prove -without M23

# --- real servers, real clients ---------------------------------------------------

say 'Real servers and real clients'
go test -c -o "$tmp/realtest" ./deploy/realtest
status=0
(cd deploy/realtest && "${sudo[@]}" env -u TMPDIR POPGATE_LAB="$tmp" POPGATE_FRONT="${POPGATE_FRONT:-}" \
	"$tmp/realtest" -test.timeout 14m -test.parallel 2 -test.run "${RUN:-.}" </dev/null >"$tmp/realtest.log") || status=$?
if [ "$status" != 0 ]; then failed+=('real servers and real clients'); fi
sed '$d' "$tmp/realtest.log"
closing=$(tail -n 1 "$tmp/realtest.log")
case $closing in
*' passed, '*' failed'*) ;;
*) printf '%s\n' "$closing"; closing='the real tests did not come to their end' ;;
esac
if [ "$status" != 0 ]; then
	for log in "$tmp"/dovecot/log "$tmp"/cyrus/log "$tmp"/courier/log; do
		if [ -s "$log" ]; then say "end of ${log#"$tmp"/}"; tail -n 20 "$log"; fi
	done
fi
if [ ${#failed[@]} -gt 0 ]; then
	say 'FAILED'
	printf '%s\n' "${failed[@]}"
	exit 1
fi
