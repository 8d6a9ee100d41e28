#!/usr/bin/env bash
# Runs every fuzz target of the module, each for a time, and prints a table.
#
#   .ci/fuzz.sh [TIME]     10s unless told otherwise; 10m before a release
#
# An input that a target fails on is written below the package's testdata/fuzz,
# and its path is printed. It exits with 1 then, and if there are fewer than ten
# targets.
set -euo pipefail
cd "$(dirname "$0")/.."
each=${1:-10s}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# go test -list prints the names of a package, then "ok" and the package.
targets=()
names=()
while read -r first second _; do
	case $first in
	Fuzz*) names+=("$first") ;;
	ok)
		for name in ${names[@]+"${names[@]}"}; do targets+=("$second $name"); done
		names=()
		;;
	esac
done < <(go test -list '^Fuzz' ./...)

module=$(go list -m)
failed=()
printf '%-22s %-24s %12s %14s  %s\n' target package runs 'inputs kept' result
for target in ${targets[@]+"${targets[@]}"}; do
	package=${target% *} name=${target#* }
	result=ok
	# Shrinking an input that is only interesting takes a minute by default.
	fuzz() { go test -run '^$' -fuzz "^$name\$" -fuzztime "$each" -fuzzminimizetime 100x "$package" >"$log" 2>&1; }
	if ! fuzz; then
		result=FAILED
		# At the end of its time the tool may take its own hurry for a failure.
		if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" && fuzz; then result=ok; fi
	fi
	runs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	kept=$(sed -n 's/.*(total: \([0-9]*\)).*/\1/p' "$log" | tail -n 1)
	printf '%-22s %-24s %12s %14s  %s\n' "$name" ".${package#"$module"}" "${runs:-0}" "${kept:-0}" "$result"
	if [ "$result" != ok ]; then
		input=$(sed -n 's/.*Failing input written to \(.*\)/\1/p' "$log" | tail -n 1)
		failed+=("$name: ${input:+.${package#"$module"}/$input}")
		tail -n 20 "$log"
	fi
done
echo "${#targets[@]} targets, $each each, ${#failed[@]} failed"
if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED %s\n' "${failed[@]}"
	exit 1
fi
[ ${#targets[@]} -ge 10 ]
