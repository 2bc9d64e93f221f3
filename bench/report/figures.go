package report

import (
	"cmp"
	"html/template"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/stayafrica/messaging/bench/measure"
)

// figure is a plot with its caption and its keys.
type figure struct {
	Title, Case string
	Legend      []key
	SVG         template.HTML
}

// key maps a color to a side.
type key struct {
	Color      int
	Sign, Name string
}

// figureBuilder draws the plots of a workload. A side has the same color in all of
// them.
type figureBuilder struct {
	names []string // of sides, in the order of their first use
	drawn []figure
}

func (a *figureBuilder) number(side string) int {
	i := slices.Index(a.names, side)
	if i < 0 {
		i = len(a.names)
		a.names = append(a.names, side)
	}
	return i
}

// finish adds a chart to the figures if it is not empty.
func (a *figureBuilder) finish(c *chart, height vg.Length, title, of string) error {
	if len(c.drawn) == 0 {
		return nil
	}
	f := figure{Title: title, Case: of}
	label := join(title, of)
	for _, side := range c.drawn {
		f.Legend = append(f.Legend, key{Color: side % colors, Sign: glyphs[side%colors].sign, Name: a.names[side]})
		label = join(label, a.names[side])
	}
	var err error
	f.SVG, err = c.svg(height, label)
	a.drawn = append(a.drawn, f)
	return err
}

// plots draws all plots of a workload.
func plots(work workload) ([]figure, error) {
	a := new(figureBuilder)
	for _, r := range work.Results {
		for _, s := range r.Sides {
			a.number(s.Name)
		}
	}
	sized, rest := bySize(work.Results)
	for _, group := range sized {
		if err := a.cost(group); err != nil {
			return nil, err
		}
	}
	for _, group := range byUnit(rest) {
		if err := a.bars(group); err != nil {
			return nil, err
		}
	}
	for _, r := range work.Results {
		if err := cmp.Or(a.latencies(r), a.course(r)); err != nil {
			return nil, err
		}
	}
	return a.drawn, nil
}

// bySize returns the groups of results with the same unit and kind of size that have
// several sizes, and the remaining results.
func bySize(results []measure.Result) (groups [][]measure.Result, rest []measure.Result) {
	groups = group(results, func(r measure.Result) [2]string { return [2]string{r.Unit, r.SizeName} })
	groups = slices.DeleteFunc(groups, func(list []measure.Result) bool {
		sizes := map[float64]bool{}
		for _, r := range list {
			if aboveZero(r.Size) {
				sizes[r.Size] = true
			}
		}
		if len(list) > 1 && len(sizes) == len(list) {
			return false
		}
		rest = append(rest, list...)
		return true
	})
	return groups, rest
}

func byUnit(results []measure.Result) [][]measure.Result {
	return group(results, func(r measure.Result) string { return r.Unit })
}

// group groups results by a key, in the order in which the keys first occur.
func group[K comparable](results []measure.Result, of func(measure.Result) K) [][]measure.Result {
	var groups [][]measure.Result
	places := map[K]int{}
	for _, r := range results {
		k := of(r)
		if _, ok := places[k]; !ok {
			places[k] = len(groups)
			groups = append(groups, nil)
		}
		groups[places[k]] = append(groups[places[k]], r)
	}
	return groups
}

// spread returns the spread of the plottable values of a side.
func spread(s measure.Side) (measure.Spread, bool) {
	list := slices.DeleteFunc(s.Values(), func(f float64) bool { return !plottable(f) })
	return measure.SpreadOf(list), len(list) > 0
}

// decade is the ratio of maximum to minimum from which an axis is logarithmic.
const decade = 10

// cost draws a figure against the size of the work.
func (a *figureBuilder) cost(results []measure.Result) error {
	results = slices.SortedStableFunc(slices.Values(results), func(x, y measure.Result) int { return cmp.Compare(x.Size, y.Size) })
	c := newChart(cmp.Or(results[0].SizeName, "size"), results[0].Unit)
	positive, low, high := true, math.Inf(1), 0.0
	for side, name := range a.names {
		var points, least, most plotter.XYs
		for _, r := range results {
			s, _ := r.Side(name)
			v, ok := spread(s)
			if !ok {
				continue
			}
			points = append(points, plotter.XY{X: r.Size, Y: v.Median})
			least = append(least, plotter.XY{X: r.Size, Y: v.Least})
			most = append(most, plotter.XY{X: r.Size, Y: v.Most})
			positive, low, high = positive && aboveZero(v.Least), min(low, v.Least), max(high, v.Most)
		}
		if len(points) == 0 {
			continue
		}
		c.band(side, least, most)
		c.line(side, points, 1)
	}
	if c.plot.X.Min*decade < c.plot.X.Max {
		logarithmic(&c.plot.X, 2)
	} else {
		fromZero(&c.plot.X)
	}
	if positive && low*decade*decade < high {
		logarithmic(&c.plot.Y, 3)
	} else {
		fromZero(&c.plot.Y)
	}
	return a.finish(c, chartHeight, "Against "+cmp.Or(results[0].SizeName, "size"), "")
}

// latencies draws the distribution of call durations: for each percentile the median of
// the rounds.
func (a *figureBuilder) latencies(r measure.Result) error {
	c := newChart("percentile of calls", "ms")
	for _, s := range r.Sides {
		if points := distribution(s); len(points) > 1 {
			c.line(a.number(s.Name), points, 1)
		}
	}
	percentiles(&c.plot.X)
	if len(c.drawn) > 0 {
		logarithmic(&c.plot.Y, 3)
	}
	return a.finish(c, chartHeight, "Latency", r.Case)
}

func distribution(s measure.Side) plotter.XYs {
	var calls []float64
	at := map[float64][]float64{}
	for _, sample := range s.Samples {
		if sample.Latency == nil {
			continue
		}
		calls = append(calls, float64(sample.Latency.Calls))
		for _, p := range sample.Latency.Curve {
			if p.Part >= 0 && p.Part <= 1 && p.MS > 0 && plottable(p.MS) {
				at[p.Part] = append(at[p.Part], p.MS)
			}
		}
	}
	if len(calls) == 0 {
		return nil
	}
	// The slowest of n calls is at (n-1)/n; points beyond that have no meaning.
	last := min(max(measure.SpreadOf(calls).Median, 2), 1e9)
	var points plotter.XYs
	for _, part := range slices.Sorted(maps.Keys(at)) {
		x := last
		if part < 1 {
			x = 1 / (1 - part)
		}
		if x < last || part == 1 {
			points = append(points, plotter.XY{X: x, Y: max(measure.SpreadOf(at[part]).Median, 1e-6)})
		}
	}
	return points
}

// course draws the rate over time: the median of the rounds, and the area between
// minimum and maximum.
func (a *figureBuilder) course(r measure.Result) error {
	c := newChart("seconds", r.Unit)
	for _, s := range r.Sides {
		points, least, most := moments(s)
		if len(points) == 0 {
			continue
		}
		side := a.number(s.Name)
		c.band(side, least, most)
		c.line(side, points, max(1, len(points)/5))
	}
	fromZero(&c.plot.X)
	fromZero(&c.plot.Y)
	return a.finish(c, chartHeight, "Over time", r.Case)
}

// steps is how many points in time a plot can show.
const steps = 150

func moments(s measure.Side) (points, least, most plotter.XYs) {
	longest := 0
	for _, sample := range s.Samples {
		longest = max(longest, len(sample.Series))
	}
	width := max(1, (longest+steps-1)/steps) // series steps per point of the plot
	for from := 0; from < longest; from += width {
		var rates []float64
		for _, sample := range s.Samples {
			if rate, ok := mean(sample.Series, from, width); ok {
				rates = append(rates, rate)
			}
		}
		if len(rates) == 0 {
			continue
		}
		v := measure.SpreadOf(rates)
		x := (float64(from) + float64(width)/2) * measure.SeriesStep.Seconds()
		points = append(points, plotter.XY{X: x, Y: v.Median})
		least = append(least, plotter.XY{X: x, Y: v.Least})
		most = append(most, plotter.XY{X: x, Y: v.Most})
	}
	return points, least, most
}

// mean returns the mean of a part of a series; ok is false after the end of the series.
func mean(series []float64, from, width int) (float64, bool) {
	var sum, n float64
	for _, rate := range series[min(from, len(series)):min(from+width, len(series))] {
		if plottable(rate) {
			sum, n = sum+rate, n+1
		}
	}
	return sum / n, n > 0
}
