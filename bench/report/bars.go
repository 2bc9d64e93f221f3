package report

import (
	"cmp"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/stayafrica/messaging/bench/measure"
)

const (
	barWidth = vg.Length(11)
	barStep  = vg.Length(17)
	mostBars = 30 // per figure
)

// bar is a bar or, with an empty spread, the heading of the bars below it.
type bar struct {
	side   int
	head   string
	spread measure.Spread
}

// bars compares the sides of results with the same unit, in as many figures as needed.
func (a *figureBuilder) bars(results []measure.Result) error {
	for len(results) > 0 {
		var rows []bar
		n := 0
		for n < len(results) && (n == 0 || len(rows)+len(results[n].Sides) < mostBars) {
			rows = append(rows, a.barsOf(results[n])...)
			n++
		}
		if err := a.barFigure(rows, results[:n]); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

// barsOf returns the bars of a result below its heading; none if there is only one
// side.
func (a *figureBuilder) barsOf(r measure.Result) []bar {
	rows := []bar{{side: -1, head: cmp.Or(r.Case, r.Workload)}}
	for _, s := range r.Sides {
		if v, ok := spread(s); ok {
			rows = append(rows, bar{side: a.number(s.Name), spread: v})
		}
	}
	if len(rows) < 3 {
		return nil
	}
	return rows
}

func (a *figureBuilder) barFigure(rows []bar, results []measure.Result) error {
	if len(rows) == 0 {
		return nil
	}
	of := ""
	if len(results) == 1 { // the caption has it
		rows, of = rows[1:], results[0].Case
	}
	c := newChart(results[0].Unit, "")
	c.plot.HideY()
	c.plot.X.Min, c.plot.X.Max = 0, 0
	seen := map[int]bool{}
	for i, row := range rows {
		y := float64(len(rows) - i)
		if row.side < 0 {
			c.words(0, y-0.15, row.head, 60, 0)
			continue
		}
		c.bar(row, y)
		if !seen[row.side] {
			seen[row.side] = true
			c.drawn = append(c.drawn, row.side)
		}
	}
	fromZero(&c.plot.X)
	c.plot.Y.Min, c.plot.Y.Max = 0.4, float64(len(rows))+0.6
	height := barStep*vg.Length(len(rows)) + 50
	return a.finish(c, height, "Side by side", of)
}

// bar draws a bar with its spread and its figure.
func (c *chart) bar(row bar, y float64) {
	v := row.spread
	c.plot.Add(&plotter.BarChart{
		Values: plotter.Values{v.Median}, Width: barWidth, Color: lineColor(row.side), XMin: y, Horizontal: true,
	})
	if v.Least < v.Most {
		c.plot.Add(&plotter.XErrorBars{
			XYs:       plotter.XYs{{X: v.Median, Y: y}},
			XErrors:   plotter.XErrors{{Low: v.Median - v.Least, High: v.Most - v.Median}},
			LineStyle: draw.LineStyle{Color: spans, Width: 1.2}, CapWidth: 6,
		})
	}
	c.words(max(v.Most, 0), y, measure.Number(v.Median), 20, 5)
}

// words writes text next to a point of the plot.
func (c *chart) words(x, y float64, s string, most int, away vg.Length) {
	style := c.plot.X.Tick.Label
	style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
	c.plot.Add(&plotter.Labels{
		XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{shorten(s, most)},
		TextStyle: []draw.TextStyle{style}, Offset: vg.Point{X: away},
	})
}
