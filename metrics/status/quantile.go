package status

import "math"

// An estimate is a quantile as far as buckets tell: between low and high, and
// probably near value. high is infinite above all buckets.
type estimate struct{ value, low, high float64 }

// quantile estimates from the classic buckets of a histogram what part q of what
// was observed in a stretch did not exceed. keys are the counts that are added up.
// ok is false where nothing was observed.
func (h *history) quantile(q float64, keys []key, s stretch) (e estimate, ok bool) {
	rise := func(bucket int) (n float64) {
		for _, k := range keys {
			k.bucket = bucket
			n += h.rise(k, s)
		}
		return n
	}
	all := rise(0)
	if all == 0 {
		return estimate{}, false
	}
	rank, below, low := q*all, 0.0, 0.0
	for i, bound := range h.bounds[keys[0].metric] {
		n := rise(i + 1)
		if n >= rank {
			return estimate{low + (bound-low)*(rank-below)/(n-below), low, bound}, true
		}
		below, low = n, bound
	}
	return estimate{low, low, math.Inf(1)}, true
}
