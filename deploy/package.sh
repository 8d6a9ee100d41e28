#!/usr/bin/env bash
# Builds what popgate is installed from, into dist/: the binary (static, stripped,
# the same octets from the same source and Go version), packages for Debian and RPM,
# the bill of materials (CycloneDX), the licences of what is linked in, and the
# digests of all that.
#
#   ./deploy/package.sh
#
# It needs Go and nothing else.
#
#   VERSION=v1.2.3            the version; the default is the tag in git, or v0.0.0-devel
#   REVISION=0123456789ab     the commit; the default is git's
#   SOURCE_DATE_EPOCH=SECONDS the time that is written into the files; the default is the commit's
#   GOARCH=arm64              for another processor
set -euo pipefail
cd "$(dirname "$0")/.."

in_git() { git rev-parse --verify -q HEAD >/dev/null 2>&1; }
if in_git; then
	: "${VERSION:=$(git describe --tags --match 'v[0-9]*' 2>/dev/null || echo v0.0.0-devel)}"
	: "${REVISION:=$(git rev-parse --short=12 HEAD)$([ -z "$(git status --porcelain)" ] || echo +changes)}"
	: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
fi
export VERSION=${VERSION:-v0.0.0-devel} SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800}
export ARCH=${GOARCH:-$(go env GOARCH)}

build() { # GOARCH file
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOFLAGS= go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$VERSION -X main.revision=${REVISION:-}" -o "$2" ./cmd/popgate
}

rm -rf dist
mkdir -p dist/files
files=dist/files
build "$ARCH" "$files/popgate"
# The manual page is made by the program, which has to run here.
run=$files/popgate
if [ "$ARCH" != "$(go env GOHOSTARCH)" ]; then
	run=$files/popgate.here
	build "$(go env GOHOSTARCH)" "$run"
fi
"$run" man | gzip -9n >"$files/popgate.8.gz"
for shell in bash fish zsh; do "$run" completion "$shell" >"$files/popgate.$shell"; done

# The tools are built for this machine, whatever the package is for.
tool() { env -u GOARCH go -C deploy/package "$@"; }
tool run ./sbom -module "$PWD" -version "$VERSION" -time "$SOURCE_DATE_EPOCH" \
	-sbom "$PWD/$files/sbom.cdx.json" -licences "$PWD/$files/licences.txt" "$PWD/$files/popgate"
nfpm=$(tool tool -n nfpm)
for packager in deb rpm; do
	"$nfpm" package --config deploy/package/nfpm.yaml --packager "$packager" --target dist/
done

name=popgate-linux-$ARCH
cp "$files/popgate" "dist/$name"
cp "$files/sbom.cdx.json" "dist/$name.cdx.json"
cp "$files/licences.txt" "dist/$name.licences.txt"
(cd dist && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%f\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS && cat SHA256SUMS)
