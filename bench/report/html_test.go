package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/report"
)

func page(t *testing.T, run measure.Run) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.HTML(&out, run); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// plots returns the plots of a page and checks that each is XML.
func plots(t *testing.T, page string) []string {
	t.Helper()
	list := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	for _, svg := range list {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
	}
	return list
}

// wellFormed checks that each element is closed in the right place.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	void := map[string]bool{"meta": true, "path": true}
	var open []string
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		kind := z.Next()
		name, _ := z.TagName()
		switch {
		case kind == html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) || len(open) > 0 {
				t.Fatal(z.Err(), open)
			}
			return
		case kind == html.StartTagToken && !void[string(name)]:
			open = append(open, string(name))
		case kind == html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("%s ends in %v", name, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func TestHTML(t *testing.T) {
	run := sample()
	got := page(t, run)
	wellFormed(t, got)
	for _, r := range run.Results {
		for _, want := range []string{">" + r.Workload + "</h2>", r.Case + " <span class=\"unit\">", r.Sides[0].Name} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in it", want)
			}
		}
	}
	for _, want := range []string{"<b>11</b> met", "<b>4</b> not met", "<b>2</b> not measured", "5859faa-dirty", "The load generator shares"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in it", want)
		}
	}
	// Two bar charts, two of cost against size, two of latencies and two over time.
	if list := plots(t, got); len(list) != 8 {
		t.Errorf("%d plots", len(list))
	}
}

func TestHTMLNeedsNothingElse(t *testing.T) {
	got := page(t, sample())
	for _, no := range []string{"<script", "<link", "<img", "<iframe", "@import", "url(", "src=", "<?xml", "xlink"} {
		if strings.Contains(got, no) {
			t.Errorf("%q is in it", no)
		}
	}
	for _, address := range regexp.MustCompile(`https?://[^"' ]*`).FindAllString(got, -1) {
		if address != "http://www.w3.org/2000/svg" {
			t.Error(address)
		}
	}
	seen := map[string]bool{}
	for _, id := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(got, -1) {
		if seen[id[1]] {
			t.Error("twice:", id[1])
		}
		seen[id[1]] = true
	}
	for _, to := range regexp.MustCompile(`(?:href="#|labelledby=")([^"]*)"`).FindAllStringSubmatch(got, -1) {
		if !seen[to[1]] {
			t.Error("nowhere:", to[1])
		}
	}
}

// A plot with colors of its own would be wrong in the light or in the dark theme.
func TestPlotsHaveTheColorsOfThePage(t *testing.T) {
	for _, svg := range plots(t, page(t, sample())) {
		if found := regexp.MustCompile(`#[0-9A-Fa-f]{6}|font-family`).FindString(svg); found != "" {
			t.Errorf("%s in %.500s", found, svg)
		}
	}
}

func TestHTMLEscapesNames(t *testing.T) {
	const hostile = `<script>alert("1")</script>'&{{.}}</svg>`
	run := sample()
	run.Mode = hostile
	run.Machine.CPU = hostile
	run.Machine.Versions = map[string]string{hostile: hostile}
	for i := range run.Results {
		r := &run.Results[i]
		r.Workload, r.Case, r.Unit, r.Note = r.Workload+hostile, r.Case+hostile, hostile, hostile
		if r.SizeName != "" {
			r.SizeName = hostile
		}
		for j := range r.Sides {
			r.Sides[j].Name, r.Sides[j].Detail = r.Sides[j].Name+hostile, hostile
		}
		for j := range r.Goals {
			r.Goals[j].Against += hostile
		}
	}
	got := page(t, run)
	wellFormed(t, got)
	if strings.Contains(got, "<script") || strings.Contains(got, `"1"`) {
		t.Error("a name is not escaped")
	}
	if list := plots(t, got); len(list) != 8 {
		t.Errorf("%d plots", len(list))
	}
}

// odd returns a result in which all figures are the same.
func odd(f float64) measure.Result {
	latency := &measure.Latency{
		Calls: int64(min(max(f, 0), 1e18)), P50: f, P99: f,
		Curve: []measure.Point{{Part: 0, MS: f}, {Part: f, MS: 1}, {Part: 0.5, MS: f}, {Part: 0.999999999999, MS: f}, {Part: 1, MS: f}},
	}
	samples := []measure.Sample{{Value: f, Latency: latency, Series: []float64{f, f}}, {Value: f, Latency: new(measure.Latency), Series: []float64{f}}}
	return measure.Result{
		Workload: "odd", Case: measure.Number(f), Size: f, SizeName: "size", Unit: "ms", Goals: []measure.Goal{{Most: f}, {Against: "b", Least: f}},
		Sides: []measure.Side{{Name: "a", Samples: samples}, {Name: "b", Samples: samples}, {Name: "c"}},
	}
}

func TestPlotsSurviveOddFigures(t *testing.T) {
	figures := []float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 1e-18, 1e-300, math.SmallestNonzeroFloat64, 1e18, math.Nextafter(1e18, 0), math.MaxInt64,
		math.MaxFloat64, -math.MaxFloat64, math.NaN(), math.Inf(1), math.Inf(-1),
	}
	for _, f := range figures {
		for _, g := range figures {
			run := measure.Run{Results: []measure.Result{odd(f), odd(g)}}
			got := page(t, run)
			for _, svg := range plots(t, got) {
				if found := regexp.MustCompile(`[^a-zA-Z](NaN|[+-]?Inf)[^a-zA-Z]`).FindString(svg); found != "" {
					t.Fatalf("%g and %g: %s in %.2000s", f, g, found, svg)
				}
			}
			text(run)
		}
	}
}

func TestPlotsOfLittle(t *testing.T) {
	for name, r := range map[string]measure.Result{
		"nothing":   {},
		"no rounds": {Workload: "a", Sides: []measure.Side{{Name: "a"}, {Name: "b"}}},
		"one round": {Workload: "a", Sides: []measure.Side{{Name: "a", Samples: []measure.Sample{{Value: 1}}}}},
		"no calls":  {Workload: "a", Sides: []measure.Side{{Name: "a", Samples: []measure.Sample{{Latency: new(measure.Latency)}}}}},
		"one step":  {Workload: "a", Sides: []measure.Side{{Name: "a", Samples: []measure.Sample{{Series: []float64{1}}}}}},
		"names of no use": {
			Workload: "\x00", Case: "\n", Unit: "\xff",
			Sides: []measure.Side{{Name: "", Samples: []measure.Sample{{Value: 1}}}, {Name: "漢字🙂", Samples: []measure.Sample{{Value: 1}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := page(t, measure.Run{Results: []measure.Result{r}})
			wellFormed(t, got)
			plots(t, got)
		})
	}
	wellFormed(t, page(t, measure.Run{}))
}

func TestPlotsOfMuch(t *testing.T) {
	w := newWorld()
	var run measure.Run
	for size := range 100 {
		r := measure.Result{Workload: "much", Case: strings.Repeat("a long name ", 20), Unit: strings.Repeat("unit", 30)}
		for range 12 {
			r.Sides = append(r.Sides, w.side(strings.Repeat("side", len(r.Sides)+1), "", 2, float64(size+1)))
		}
		run.Results = append(run.Results, r)
	}
	run.Results[0].Sides[0].Samples[0].Series = make([]float64, 1_000_000)
	got := page(t, run)
	if list := plots(t, got); len(list) != 51 { // two results per bar chart
		t.Errorf("%d plots", len(list))
	}
	if len(got) > 10<<20 {
		t.Errorf("a page of %d bytes", len(got))
	}
}

func TestHTMLReturnsWriteErrors(t *testing.T) {
	down := errors.New("down")
	if err := report.HTML(brokenWriter{down}, sample()); !errors.Is(err, down) {
		t.Error(err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
