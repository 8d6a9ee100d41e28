package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The rows of the table.
const (
	poll8      = "polls a second, 8 clients"
	poll64     = "polls a second, 64 clients"
	pollCPU    = "gateway CPU, s per 1,000 polls"
	pollFar    = "one poll at 20 ms, p50, ms"
	down       = "download of 1,000 x 4 kB, messages/s"
	downFar    = "the same at 20 ms"
	pipe       = "pipelined download (16), messages/s"
	pipeFar    = "pipelined at 20 ms"
	top        = "TOP n 0, messages/s"
	topFar     = "TOP n 0 at 20 ms"
	mixedDown  = "download of 10,000 mixed, messages/s"
	openFirst  = "200,000 messages: first STAT, s"
	openAgain  = "200,000: STAT of the next session, s"
	uidlFirst  = "200,000: first session with UIDL, s"
	uidlAgain  = "200,000: next session with UIDL, s"
	openMemory = "200,000: memory kept, MB"
	blobRate   = "50 MB messages, 4 readers, MB/s"
	blobMemory = "50 MB messages: memory at the peak, MB"
	blobOctet  = "50 MB messages: first octet, ms"
	idlePSS    = "an idle session, kB"
	deleteNear = "DELE 1,000 and QUIT, s"
	deleteFar  = "DELE and QUIT at 20 ms, s"
	slowMemory = "a slow reader of 50 MB: memory, MB"
)

// An aim is what popgate is to reach.
type aim struct {
	value float64
	less  bool    // a smaller figure is better
	reuse float64 // with connections reused; 0: the same
}

var aims = map[string]aim{
	poll8:      {830, false, 1500},
	poll64:     {830, false, 1500},
	pollCPU:    {0.5, true, 0},
	pollFar:    {90, true, 45},
	down:       {12000, false, 0},
	downFar:    {3000, false, 0},
	pipe:       {25000, false, 0},
	pipeFar:    {4000, false, 0},
	top:        {11000, false, 0},
	topFar:     {3000, false, 0},
	openFirst:  {0.6, true, 0},
	openAgain:  {0.02, true, 0},
	uidlFirst:  {1.0, true, 0},
	uidlAgain:  {0.35, true, 0},
	openMemory: {8, true, 0},
	blobRate:   {700, false, 0},
	blobMemory: {8, true, 0},
	blobOctet:  {5, true, 0},
	idlePSS:    {48, true, 0},
	deleteNear: {0.06, true, 0},
	deleteFar:  {0.15, true, 0},
	slowMemory: {1, true, 0},
}

func (a aim) reached(v float64, reuse bool) bool {
	want := a.value
	if reuse && a.reuse != 0 {
		want = a.reuse
	}
	if a.less {
		return v <= want
	}
	return v >= want
}

// figures are the measured values by row and column.
type figures map[string]map[string][]float64

func (f figures) tell(column string) func(row string, v float64) {
	return func(row string, v float64) {
		if f[row] == nil {
			f[row] = map[string][]float64{}
		}
		f[row][column] = append(f[row][column], v)
	}
}

// median returns false where there is no figure.
func (f figures) median(row, column string) (float64, bool) {
	v := slices.Sorted(slices.Values(f[row][column]))
	if len(v) == 0 {
		return 0, false
	}
	return v[len(v)/2], true
}

// number writes v with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		s := fmt.Sprintf("%.0f", v)
		return s[:len(s)-3] + "," + s[len(s)-3:]
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// The columns of the table, by contender.
var columns = []struct{ name, title string }{
	{"wire", "wire"}, {"native", "Dovecot POP3"}, {"imapc", "Dovecot imapc"}, {"popgate", "popgate"}, {"popgate-reuse", "popgate, reuse"},
}

// table writes the figures as Markdown.
func (f figures) table(rows []string) string {
	var b strings.Builder
	b.WriteString("| work |")
	for _, c := range columns {
		b.WriteString(" " + c.title + " |")
	}
	b.WriteString(" aim |\n|---|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, row := range rows {
		b.WriteString("| " + row + " |")
		a, aimed := aims[row]
		for _, c := range columns {
			v, ok := f.median(row, c.name)
			switch ours := strings.HasPrefix(c.name, "popgate"); {
			case !ok:
				b.WriteString(" |")
			case ours && aimed && !a.reached(v, c.name != "popgate"):
				b.WriteString(" " + number(v) + " (not reached) |")
			case ours:
				b.WriteString(" **" + number(v) + "** |")
			default:
				b.WriteString(" " + number(v) + " |")
			}
		}
		switch {
		case !aimed:
			b.WriteString(" |\n")
		case a.reuse != 0:
			fmt.Fprintf(&b, " %s; with reuse %s |\n", number(a.value), number(a.reuse))
		default:
			b.WriteString(" " + number(a.value) + " |\n")
		}
	}
	return b.String()
}
