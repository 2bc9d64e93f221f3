package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The page has a light and a dark theme, so a plot has no colors of its own: it is
// drawn in placeholder colors, which themed replaces with the page's CSS variables.
var (
	ink   = color.NRGBA{R: 0x0c, B: 0x01, A: 0xff} // --ink, of text
	rule  = color.NRGBA{R: 0x0c, B: 0x02, A: 0xff} // --rule, of grid and axes
	spans = color.NRGBA{R: 0x0c, B: 0x03, A: 0xff} // --span, of spreads on bars
)

// lineColor returns the placeholder color of a side. bandColor is its translucent
// variant.
func lineColor(side int) color.Color {
	return color.NRGBA{R: 0x0a, B: uint8(side % colors), A: 0xff} //nolint:gosec // a small number
}

func bandColor(side int) color.Color {
	return color.NRGBA{R: 0x0b, B: uint8(side % colors), A: 0xff} //nolint:gosec // a small number
}

// colors is how many colors the page has for sides, and how many point shapes there
// are.
const colors = 8

var glyphs = [colors]struct {
	sign  string
	shape draw.GlyphDrawer
}{
	{"●", draw.CircleGlyph{}},
	{"■", draw.BoxGlyph{}},
	{"▲", draw.PyramidGlyph{}},
	{"○", draw.RingGlyph{}},
	{"□", draw.SquareGlyph{}},
	{"△", draw.TriangleGlyph{}},
	{"+", draw.PlusGlyph{}},
	{"×", draw.CrossGlyph{}},
}

var themed = func() *strings.Replacer {
	pairs := []string{"\n\tstyle=\"font-family:Liberation Sans;font-variant:normal;font-weight:normal;font-style:normal;", ` style="`}
	for _, property := range []string{"fill:", "stroke:"} {
		pairs = append(pairs, property+hex(ink), property+"var(--ink)", property+hex(rule), property+"var(--rule)", property+hex(spans), property+"var(--span)")
		for side := range colors {
			variable := fmt.Sprintf("%svar(--s%d)", property, side)
			pairs = append(pairs, property+hex(lineColor(side)), variable, property+hex(bandColor(side)), variable+";fill-opacity:.18")
		}
	}
	return strings.NewReplacer(pairs...)
}()

func hex(c color.Color) string {
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02X%02X%02X", r>>8, g>>8, b>>8)
}

// chart is a plot under construction. Its width is that of a phone, so that text keeps
// its size there.
type chart struct {
	plot  *plot.Plot
	drawn []int // the drawn sides, in order
}

const (
	chartWidth  = vg.Length(360)
	chartHeight = vg.Length(230)
)

// plottable reports whether a value fits on an axis; larger values would leave no space
// for the others.
func plottable(f float64) bool { return math.Abs(f) <= 1e18 }

// aboveZero reports whether a value fits on a logarithmic axis.
func aboveZero(f float64) bool { return f >= 1e-18 && plottable(f) }

func newChart(xLabel, yLabel string) *chart {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = rule, rule
		axis.Width, axis.Tick.Width = 1, 1
		axis.Tick.Length = 4
		axis.Padding = 2
		axis.Tick.Label.Color, axis.Label.TextStyle.Color = ink, ink
		axis.Tick.Label.Font, axis.Label.TextStyle.Font = letters(11.5), letters(11.5)
		axis.Label.Padding = 3
		axis.Tick.Marker = plot.TickerFunc(linearTicks)
	}
	p.X.Label.Text, p.Y.Label.Text = shorten(xLabel, 50), shorten(yLabel, 30)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = rule, rule
	grid.Vertical.Width, grid.Horizontal.Width = 0.5, 0.5
	p.Add(grid)
	return &chart{plot: p}
}

func letters(size vg.Length) font.Font {
	return font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size)
}

// shorten cuts text that would leave no space for the plot.
func shorten(s string, most int) string {
	runes := []rune(strings.Join(strings.Fields(clean(s)), " "))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// line draws the points of a side as a line, with a marker on every nth point. The
// points must be plottable.
func (c *chart) line(side int, points plotter.XYs, nth int) {
	line := &plotter.Line{XYs: points, LineStyle: draw.LineStyle{Color: lineColor(side), Width: 1.8}}
	var marked plotter.XYs
	for i := min(side*nth/colors, len(points)-1); i < len(points); i += nth { // the markers of the sides are offset
		marked = append(marked, points[i])
	}
	c.plot.Add(line, &plotter.Scatter{XYs: marked, GlyphStyle: glyph(side)})
	c.drawn = append(c.drawn, side)
}

func glyph(side int) draw.GlyphStyle {
	return draw.GlyphStyle{Color: lineColor(side), Radius: 3, Shape: glyphs[side%colors].shape}
}

// band fills the area between the minimum and the maximum of each point.
func (c *chart) band(side int, least, most plotter.XYs) {
	outline := append(plotter.XYs{}, most...)
	for _, point := range slices.Backward(least) {
		outline = append(outline, point)
	}
	c.plot.Add(&plotter.Polygon{XYs: []plotter.XYs{outline}, Color: bandColor(side)})
}

// fromZero starts an axis at zero, with a margin after the data.
func fromZero(axis *plot.Axis) {
	axis.Min, axis.Max = min(axis.Min, 0), max(axis.Max*1.05, 0)
	if axis.Min == axis.Max {
		axis.Max = 1
	}
}

// svg returns the plot as an element for the page; label is the text for screen
// readers.
func (c *chart) svg(height vg.Length, label string) (template.HTML, error) {
	canvas := vgsvg.New(chartWidth, height)
	area := draw.New(canvas)
	c.plot.Draw(draw.Crop(area, 2, -8, 2, -8))
	out := new(bytes.Buffer)
	if _, err := canvas.WriteTo(out); err != nil {
		return "", fmt.Errorf("draw %s: %w", label, err)
	}
	_, body, _ := strings.Cut(out.String(), "<svg ") // without the header of an SVG file
	_, body, _ = strings.Cut(body, ">")              // and without its size in print
	head := fmt.Sprintf(`<svg viewBox="0 0 %g %g" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="%s">`,
		chartWidth.Points(), height.Points(), template.HTMLEscapeString(clean(label)))
	return template.HTML(head + themed.Replace(body)), nil //nolint:gosec // all words in it are escaped
}
