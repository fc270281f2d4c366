package pages

import (
	"slices"
	"strings"
	"time"

	"gatepost/internal/history"
)

// chart is messages over time as bars. It is made here, as SVG whose coordinates are
// percents: it needs no script, follows the theme, and each piece of a bar is a link.
type chart struct {
	Bars []bar
	// Marks are the values on the axis, from the top.
	Marks  []axisMark
	Titles []string
	// Width is that of the drawing, whose bars are ten wide.
	Width int
}

// bar is what happened in one stretch of time.
type bar struct {
	From, Until time.Time
	// Label stands below, as "hour" or "day" of a time; "" for none.
	Label string
	// Pieces are drawn, Cells are the same as a row of the table, zeros included.
	Pieces []piece
	Cells  []figure
}

// piece is one part of a bar.
type piece struct {
	figure
	X         int
	Y, Height float64
}

// axisMark is a value of the axis and where it is, from the top.
type axisMark struct {
	Value int64
	Y     int
}

// chartHeight is that of the drawing.
const chartHeight = 200

// chartOf draws what was counted.
func chartOf(counts *history.Statistics, over stretch) chart {
	c := chart{Width: 10 * len(counts.Points)}
	kinds := traffics()
	for _, t := range kinds {
		c.Titles = append(c.Titles, t.title)
	}
	most := int64(0)
	for _, p := range counts.Points {
		sum := int64(0)
		for _, t := range kinds {
			sum += t.of(p.Totals)
		}
		most = max(most, sum)
	}
	scale := roundUp(most)
	c.Marks = []axisMark{{scale, 0}, {scale / 2, chartHeight / 2}, {0, chartHeight}}
	for i, p := range counts.Points {
		b := bar{From: p.Time, Until: p.Time.Add(counts.Step)}
		if i < len(counts.Points)-2 { // where it has room
			b.Label = labelOf(p.Time, over)
		}
		y := float64(chartHeight)
		for _, t := range kinds {
			f := figure{Title: t.title, Class: t.class, Count: t.of(p.Totals), Link: t.query(b.From, b.Until)}
			b.Cells = append(b.Cells, f)
			if f.Count > 0 {
				// The rarest is seen as well: what is one of a thousand may be what matters.
				height := max(float64(f.Count)/float64(scale)*chartHeight, 2)
				y = max(y-height, 0)
				b.Pieces = append(b.Pieces, piece{figure: f, X: 10*i + 1, Y: y, Height: height})
			}
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

// Latest are the bars, the latest first, without those of no mail.
func (c chart) Latest() []bar {
	all := slices.DeleteFunc(slices.Clone(c.Bars), func(b bar) bool { return len(b.Pieces) == 0 })
	slices.Reverse(all)
	return all
}

// roundUp is the next even number that people like at an axis: 2, 4, 10, 20, 40, 100 ….
func roundUp(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for _, nice := range []int64{2, 4, 6, 8, 10} {
			if n <= nice*unit {
				return nice * unit
			}
		}
	}
}

// labelOf says what stands below a bar: not more than fits on a phone.
func labelOf(t time.Time, over stretch) string {
	switch {
	case over.step == time.Hour && t.Hour()%4 == 0:
		return "hour"
	case over.step > time.Hour && over.step < 24*time.Hour && t.Hour() == 0:
		return "day"
	case over.step == 24*time.Hour && t.YearDay()%5 == 0:
		return "day"
	}
	return ""
}

// quoted is a value as the language of searches reads it.
func quoted(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}
