package status

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const maxText = 200 // letters of a text that is shown

// gap stands between a number and its unit, so that no line ends there.
const gap = "\u00a0"

// clean makes a text fit to be shown: bounded, and nothing in it that is not seen.
func clean(s string) string {
	if len(s) > utf8.UTFMax*maxText {
		s = s[:utf8.UTFMax*maxText]
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	if letters := []rune(s); len(letters) > maxText {
		s = string(letters[:maxText-1]) + "…"
	}
	return s
}

// count writes a whole number, 1,234,567.
func count(v float64) string {
	s := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rate writes a number that need not be whole: to two digits where it is small.
func rate(v float64) string {
	if v == 0 || v >= 9.95 {
		return count(v)
	}
	if v < 0.01 {
		return "<" + gap + "0.01"
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// brief writes a number beside an axis, where there is little room.
func brief(v float64) string {
	units := []string{"", "k", "M", "G", "T"}
	i := 0
	for ; (v >= 10_000 || i > 0 && v >= 1000) && i < len(units)-1; i++ {
		v /= 1000
	}
	return rate(v) + units[i]
}

// size writes octets.
func size(v float64) string {
	units := []string{"octets", "kB", "MB", "GB", "TB"}
	i := 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1000
	}
	if i == 0 || v >= 99.95 {
		return count(v) + gap + units[i]
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + gap + units[i]
}

// seconds writes a short time, to two digits.
func seconds(v float64) string {
	unit := gap + "s"
	if v < 0.9995 {
		v, unit = v*1000, gap+"ms"
	}
	if v >= 9.95 {
		return count(v) + unit
	}
	return strconv.FormatFloat(v, 'g', 2, 64) + unit
}

// String tells how sure it is.
func (e estimate) String() string {
	switch {
	case e.low == 0:
		return "<" + gap + seconds(e.high)
	case math.IsInf(e.high, 1):
		return ">" + gap + seconds(e.low)
	}
	return "≈" + gap + seconds(e.value)
}

// lasting writes a long time in its one or two largest units.
func lasting(d time.Duration) string {
	whole := func(n time.Duration, unit string) string { return strconv.FormatInt(int64(n), 10) + gap + unit }
	const day = 24 * time.Hour
	switch {
	case d >= 10*day:
		return whole(d/day, "d")
	case d >= day:
		return whole(d/day, "d") + " " + whole(d%day/time.Hour, "h")
	case d >= time.Hour:
		return whole(d/time.Hour, "h") + " " + whole(d%time.Hour/time.Minute, "min")
	case d >= time.Minute:
		return whole(d/time.Minute, "min")
	}
	return whole(max(d, 0)/time.Second, "s")
}

// A moment is a time, as people and as programs read it.
type moment struct{ Text, Exact string }

// since tells how long ago something was, as far as samples tell.
func since(at, now time.Time) moment {
	m := moment{"just now", at.UTC().Format(time.RFC3339)}
	if d := now.Sub(at); d >= every {
		m.Text = lasting(d) + " ago"
	}
	return m
}

// plural writes a number of things.
func plural(n float64, one, many string) string {
	if math.Round(n) == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// pieces cuts a URL where a line may end.
func pieces(s string) []string {
	var out []string
	for len(s) > 0 {
		end := len(s)
		if i := strings.Index(s, "//"); i >= 0 {
			end = i + 2
		} else if i := strings.LastIndex(s, ":"); i > 0 {
			end = i
		}
		out, s = append(out, s[:end]), s[end:]
	}
	return out
}
