package report

import (
	"bytes"
	_ "embed" // the page and its style sheet
	"fmt"
	"html/template"
	"io"

	"github.com/stayafrica/messaging/bench/measure"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"class": func(v verdict) string {
		return map[verdict]string{met: "met", notMet: "missed", notMeasured: "unknown"}[v]
	},
	"sign": func(v verdict) string {
		return map[verdict]string{met: "✓", notMet: "✗", notMeasured: "?"}[v]
	},
}).Parse(pageText))

// page is the data of the template.
type page struct {
	Style                template.CSS
	Mode, Date           string
	Facts                []fact
	Goals                []outcome
	Met, Missed, Unknown int
	Works                []section
}

// section is the part of the page for a workload.
type section struct {
	workload
	Sides   []row
	Figures []figure
}

// HTML writes a run as one self-contained page, which needs no network and no script.
func HTML(w io.Writer, run measure.Run) error {
	goals := outcomes(run)
	p := page{
		Style: template.CSS(pageStyle), Mode: run.Mode, Facts: facts(run), Goals: goals, //nolint:gosec // our own
		Met: count(goals, met), Missed: count(goals, notMet), Unknown: count(goals, notMeasured),
	}
	if !run.Began.IsZero() {
		p.Date = run.Began.UTC().Format("2 January 2006")
	}
	for _, work := range workloads(run) {
		drawn, err := plots(work)
		if err != nil {
			return fmt.Errorf("plots of %s: %w", work.Name, err)
		}
		p.Works = append(p.Works, section{workload: work, Sides: work.sides(), Figures: drawn})
	}
	var out bytes.Buffer // write all of it or nothing
	if err := pageTemplate.Execute(&out, p); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	_, err := out.WriteTo(w)
	return err
}
