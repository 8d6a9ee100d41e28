package imaptest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A span is a range of UIDs or message sequence numbers, both ends included.
type span struct{ lo, hi uint32 }

// star stands for "*" until the set is resolved.
const star = 0

// parseSet reads a sequence-set (RFC 3501 section 9) of at most 8192 ranges.
func parseSet(text string) ([]span, error) {
	parts := strings.Split(text, ",")
	if len(parts) > 8192 {
		return nil, fmt.Errorf("sequence set of %d ranges", len(parts))
	}
	set := make([]span, 0, len(parts))
	for _, part := range parts {
		a, b, ranged := strings.Cut(part, ":")
		lo, err := parseSetNumber(a)
		if err != nil {
			return nil, err
		}
		hi := lo
		if ranged {
			if hi, err = parseSetNumber(b); err != nil {
				return nil, err
			}
		}
		set = append(set, span{lo, hi})
	}
	return set, nil
}

func parseSetNumber(s string) (uint32, error) {
	if s == "*" {
		return star, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("bad number %q in sequence set", s)
	}
	return uint32(n), nil
}

// resolve puts last in the place of "*" and orders set.
func resolve(set []span, last uint32) []span {
	out := make([]span, 0, len(set))
	for _, r := range set {
		if r.lo == star {
			r.lo = last
		}
		if r.hi == star {
			r.hi = last
		}
		out = append(out, span{min(r.lo, r.hi), max(r.lo, r.hi)})
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && r.lo <= merged[n-1].hi {
			merged[n-1].hi = max(merged[n-1].hi, r.hi)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// contains reports whether n is in the resolved set.
func contains(set []span, n uint32) bool {
	i, found := slices.BinarySearchFunc(set, n, func(r span, n uint32) int { return cmp.Compare(r.lo, n) })
	return found || i > 0 && set[i-1].hi >= n
}

// formatSet writes ascending numbers as a sequence-set.
func formatSet(numbers []uint32) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, numbers[i])
		if j > i {
			fmt.Fprintf(&b, ":%d", numbers[j])
		}
		i = j + 1
	}
	return b.String()
}
