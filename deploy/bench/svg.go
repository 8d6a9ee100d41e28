package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	svgWidth = 860
	svgLabel = 280 // place for the name of a row
	svgBar   = 11
	svgRow   = 52
	svgTop   = 64
)

// picture draws what popgate and its peers do in the rows, as bars: how many
// times as good as Dovecot imapc, on a logarithmic scale. It carries its own
// colours for light and dark, and needs no font and no script.
func (f figures) picture(rows []string) string {
	var shown []string
	for _, row := range rows {
		if v, ok := f.median(row, "imapc"); ok && v > 0 {
			if p, ok := f.median(row, "popgate"); ok && p > 0 {
				shown = append(shown, row)
			}
		}
	}
	best := 10.0
	ratio := func(row, column string) (float64, bool) {
		v, ok := f.median(row, column)
		base, _ := f.median(row, "imapc")
		if !ok || v <= 0 {
			return 0, false
		}
		if aims[row].less {
			return base / v, true
		}
		return v / base, true
	}
	bars := []struct{ column, class, title string }{
		{"imapc", "i", "Dovecot imapc"}, {"native", "n", "Dovecot POP3 (own disk)"}, {"popgate", "p", "popgate"},
	}
	for _, row := range shown {
		for _, bar := range bars {
			if r, ok := ratio(row, bar.column); ok {
				best = max(best, r)
			}
		}
	}
	decades := math.Ceil(math.Log10(best))
	const low = -1.0 // the scale begins at a tenth
	x := func(r float64) float64 {
		return svgLabel + (max(low, math.Log10(r))-low)/(decades-low)*(svgWidth-svgLabel-70)
	}
	height := svgTop + svgRow*len(shown) + 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="How many times as good as Dovecot imapc">
<style>
text{font:12px sans-serif;fill:#1f2328}.h{font-size:14px;font-weight:bold}.g{stroke:#d0d7de}.i{fill:#8c959f}.n{fill:#4f8fd9}.p{fill:#1a7f37}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#3d444d}.i{fill:#6e7681}.n{fill:#58a6ff}.p{fill:#3fb950}}
</style>
<text class="h" x="10" y="20">How many times as good as Dovecot's POP3 over imapc (longer is better, logarithmic)</text>
`, svgWidth, height, svgWidth, height)
	at := 10
	for _, bar := range bars {
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="32" width="12" height="12"/><text x="%d" y="43">%s</text>`+"\n", bar.class, at, at+18, bar.title)
		at += 40 + 7*len(bar.title)
	}
	for d := low; d <= decades; d++ {
		r := math.Pow(10, d)
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text x="%.1f" y="%d">%gx</text>`+"\n", x(r), x(r), svgTop-8, height-18, x(r)-8, height-4, r)
	}
	for k, row := range shown {
		y := svgTop + k*svgRow
		fmt.Fprintf(&b, `<text x="10" y="%d">%s</text>`+"\n", y+24, escape(row))
		for n, bar := range bars {
			r, ok := ratio(row, bar.column)
			if !ok {
				continue
			}
			v, _ := f.median(row, bar.column)
			from, to := x(math.Pow(10, low)), max(x(r), x(math.Pow(10, low))+1)
			fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d">%s</text>`+"\n",
				bar.class, from, y+n*(svgBar+3), to-from, svgBar, to+5, y+n*(svgBar+3)+svgBar-1, number(v))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
