package status

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The picture, in units of its own: it is drawn as wide as there is room.
const (
	plotLeft, plotRight = 44.0, 312.0
	plotTop, plotBottom = 8.0, 104.0
	minutes             = 60
)

// A plot is one small picture of the last hour.
type plot struct {
	ID, Title, Unit string
	Grid            []gridLine
	Lines           []drawn
	Area            string // below the first line; "" where there are more
	About           string // in words, for who does not see it
	Empty           string // why there is nothing to see; "" if there is
}

// A gridLine is a horizontal line with a label.
type gridLine struct {
	Y     string
	Label string
}

// A drawn line. Class makes its dashes and its colour; dots are the points without a
// neighbour.
type drawn struct{ Name, Class, Path, Dots, Last string }

// A curve is a line before it is drawn: a value for each step, NaN where there is
// none.
type curve struct {
	name   string
	values []float64
	last   string
}

// An axis turns a value into a height.
type axis struct {
	grid  []gridLine
	place func(v float64) float64
}

// linear is an axis from 0 to a round number.
func linear(most float64, label func(float64) string) axis {
	top := roundUp(most)
	place := func(v float64) float64 { return plotBottom - v/top*(plotBottom-plotTop) }
	a := axis{place: place}
	for _, v := range []float64{0, top / 2, top} {
		a.grid = append(a.grid, gridLine{decimal(place(v)), label(v)})
	}
	return a
}

// roundUp gives the next number of 1, 2, 4, 6, 8 or 10 and zeros, 2 at least: halves
// of it are whole where they are of use.
func roundUp(v float64) float64 {
	if v <= 2 {
		return 2
	}
	tens := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 4, 6, 8, 10} {
		if n*tens >= v {
			return n * tens
		}
	}
	return 10 * tens
}

// logarithmic is an axis whose lines are the bounds of the buckets, because more
// is not known. What is below the first or above the last is drawn beyond it.
func logarithmic(bounds []float64) axis {
	const beyond = 3 // times
	low, high := math.Log(max(bounds[0], 1e-6)/beyond), math.Log(bounds[len(bounds)-1]*beyond)
	place := func(v float64) float64 {
		v = min(max(math.Log(max(v, 1e-9)), low), high)
		return plotBottom - (v-low)/(high-low)*(plotBottom-plotTop)
	}
	a := axis{place: place}
	const room = 12 // for one label
	last := math.Inf(1)
	for _, b := range bounds {
		if y := place(b); last-y >= room {
			a.grid = append(a.grid, gridLine{decimal(y), seconds(b)})
			last = y
		}
	}
	return a
}

// draw draws curves of the same steps, the newest at the right end.
func (p *plot) draw(a axis, curves ...curve) {
	p.Grid = a.grid
	x := func(i, n int) float64 {
		return plotRight - float64(n-1-i)/(minutes-1)*(plotRight-plotLeft)
	}
	var about []string
	for k, c := range curves {
		var path, dots strings.Builder
		n := len(c.values)
		there := func(i int) bool { return i >= 0 && i < n && !math.IsNaN(c.values[i]) }
		for i, v := range c.values {
			at := decimal(x(i, n)) + " " + decimal(a.place(v))
			switch {
			case !there(i):
			case there(i - 1):
				path.WriteString("L" + at)
			case there(i + 1):
				path.WriteString("M" + at)
			default:
				dots.WriteString("M" + at + "h0")
			}
		}
		p.Lines = append(p.Lines, drawn{c.name, "l" + strconv.Itoa(k+1), path.String(), dots.String(), c.last})
		about = append(about, c.name+": "+c.last+" now")
		if len(curves) == 1 && n > 1 && !slices.ContainsFunc(c.values, math.IsNaN) {
			p.Area = fmt.Sprintf("%sV%sH%sZ", path.String(), decimal(plotBottom), decimal(x(0, n)))
		}
	}
	p.About = strings.Join(about, "; ") + "."
}

func decimal(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// highest is the highest value of all curves.
func highest(curves ...curve) (most float64) {
	for _, c := range curves {
		for _, v := range c.values {
			if !math.IsNaN(v) {
				most = max(most, v)
			}
		}
	}
	return most
}

// amounts is a plot of curves over a linear axis.
func amounts(id, title, unit string, label func(float64) string, curves ...curve) plot {
	p := plot{ID: id, Title: title, Unit: unit}
	if len(curves[0].values) == 0 {
		p.Empty = "The first figures come within " + strconv.Itoa(int(every.Seconds())) + " seconds of the start."
		return p
	}
	p.draw(linear(highest(curves...), label), curves...)
	return p
}

// gauge is what numbers were, at their highest of each minute.
func (h *history) gauge(name string, keys ...key) curve {
	c := curve{name: name}
	now := 0.0
	for _, k := range keys {
		now += h.last(k)
	}
	c.last = count(now)
	for _, s := range h.steps() {
		most := 0.0
		for i := s.from + 1; i <= s.to; i++ {
			sum := 0.0
			for _, k := range keys {
				sum += h.value(k, i)
			}
			most = max(most, sum)
		}
		c.values = append(c.values, most)
	}
	return c
}

// perMinute is how fast counters rose together. What is shorter than a minute is not
// stretched.
func (h *history) perMinute(name string, keys ...key) curve {
	c := curve{name: name, last: rate(0)}
	for _, s := range h.steps() {
		rise := 0.0
		for _, k := range keys {
			rise += h.rise(k, s)
		}
		rise *= 60 / max(60, h.seconds(s))
		c.values = append(c.values, rise)
		c.last = rate(rise)
	}
	return c
}

// times is a plot of the median and the 95th percentile of a histogram.
func (h *history) times(id, title, nothing string, keys []key) plot {
	p := plot{ID: id, Title: title, Unit: "by buckets"}
	half, most := curve{name: "half within", last: "–"}, curve{name: "95 % within", last: "–"}
	seen := false
	for _, s := range h.steps() {
		half.add(h.quantile(0.5, keys, s))
		seen = most.add(h.quantile(0.95, keys, s)) || seen
	}
	if !seen || len(h.bounds[keys[0].metric]) == 0 {
		p.Empty = nothing
		return p
	}
	p.draw(logarithmic(h.bounds[keys[0].metric]), half, most)
	return p
}

// add adds an estimate to the curve; above all buckets it is drawn beyond the last.
func (c *curve) add(e estimate, ok bool) bool {
	switch {
	case !ok:
		c.values, c.last = append(c.values, math.NaN()), "–"
	case math.IsInf(e.high, 1):
		c.values, c.last = append(c.values, 2*e.low), e.String()
	default:
		c.values, c.last = append(c.values, e.value), e.String()
	}
	return ok
}
