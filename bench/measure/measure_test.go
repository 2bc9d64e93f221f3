package measure_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stayafrica/messaging/bench/measure"
)

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

func TestSpreads(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want string
	}{
		{nil, "– (– to –)"},
		{[]float64{nan}, "– (– to –)"},
		{[]float64{7}, "7.00 (7.00 to 7.00)"},
		{[]float64{30, 10, 20}, "20.0 (10.0 to 30.0)"},
		{[]float64{4, 3, 2, 1}, "2.00 (1.00 to 4.00)"}, // the lower of the two in the middle
		{[]float64{nan, 1, nan, 3, 2}, "2.00 (1.00 to 3.00)"},
		{[]float64{1, inf, 2}, "2.00 (1.00 to +Inf)"},
		{[]float64{1234567, 0.5, 999}, "999 (0.50 to 1,234,567)"},
	} {
		list := slices.Clone(c.list)
		if got := measure.SpreadOf(list).Format(); got != c.want {
			t.Errorf("spread of %v: %s, not %s", c.list, got, c.want)
		}
		if fmt.Sprint(list) != fmt.Sprint(c.list) {
			t.Errorf("the list was changed: %v", list)
		}
	}
}

func TestNumbers(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.00", 0.5: "0.50", 0.0123456: "0.0123", 0.00001: "1e-05", 12.34: "12.3", 123.4: "123", 1000: "1,000",
		-1234567: "-1,234,567", 1e9: "1,000,000,000", 1e18: "1e+18", math.MaxFloat64: "1.8e+308", inf: "+Inf", -inf: "-Inf",
	} {
		if got := measure.Number(f); got != want {
			t.Errorf("%g: %s, not %s", f, got, want)
		}
	}
}

// result has one side per list of values: "a", "b" and so on.
func result(lists ...[]float64) measure.Result {
	r := measure.Result{Workload: "send", Case: "64 connections", Unit: "messages/s"}
	for i, list := range lists {
		s := measure.Side{Name: string(rune('a' + i))}
		for _, value := range list {
			s.Samples = append(s.Samples, measure.Sample{Value: value})
		}
		r.Sides = append(r.Sides, s)
	}
	return r
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	r := result([]float64{10, 20, 90}, []float64{10, 40, 30}, nil)
	if got := r.Ratio("b").Format(); got != "1.00 (0.50 to 3.00)" {
		t.Error(got)
	}
	if got := r.Ratio("a").Format(); got != "1.00 (1.00 to 1.00)" {
		t.Error("against itself:", got)
	}
	for _, other := range []string{"c", "nobody"} {
		if got := r.Ratio(other); !math.IsNaN(got.Median) {
			t.Error(other, got)
		}
	}
	if got := (measure.Result{}).Ratio("a"); !math.IsNaN(got.Median) {
		t.Error("without sides:", got)
	}
	if got := result([]float64{1, 2, 3}, []float64{2}).Ratio("b").Format(); got != "0.50 (0.50 to 0.50)" {
		t.Error("rounds of both only:", got)
	}
}

func TestJudge(t *testing.T) {
	least, most := measure.Goal{Against: "b", Least: 2}, measure.Goal{Against: "b", Most: 2}
	figure := measure.Goal{Most: 10}
	for name, c := range map[string]struct {
		r           measure.Result
		g           measure.Goal
		met, judged bool
	}{
		"reached":                   {result([]float64{4, 1, 6}, []float64{2, 2, 2}), least, true, true},
		"missed":                    {result([]float64{3.9}, []float64{2}), least, false, true},
		"kept":                      {result([]float64{4}, []float64{2}), most, true, true},
		"exceeded":                  {result([]float64{4.1}, []float64{2}), most, false, true},
		"figure met":                {result([]float64{10}), figure, true, true},
		"figure exceeded":           {result([]float64{10.1, 10.2, 1}), figure, false, true},
		"figure of zero":            {result([]float64{0}), figure, true, true},
		"nothing against something": {result([]float64{0}, []float64{2}), least, false, true},
		"something against nothing": {result([]float64{2}, []float64{0}), least, false, false},
		"nothing against nothing":   {result([]float64{0}, []float64{0}), most, false, false},
		"side absent":               {result([]float64{1}), least, false, false},
		"side without rounds":       {result([]float64{1}, nil), least, false, false},
		"no rounds":                 {result(nil, nil), most, false, false},
		"figure without rounds":     {result(nil), figure, false, false},
		"no sides":                  {measure.Result{}, figure, false, false},
		"no sides, against one":     {measure.Result{}, most, false, false},
		"not a number":              {result([]float64{nan}), figure, false, false},
		"not a number in one round": {result([]float64{nan, 11, 12}), figure, false, true},
		"infinite":                  {result([]float64{inf}), figure, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, met, judged := c.r.Judge(c.g); met != c.met || judged != c.judged {
				t.Errorf("met %v, judged %v", met, judged)
			}
		})
	}
}

func TestGoalsAreFormatted(t *testing.T) {
	for want, g := range map[string]measure.Goal{
		"≥ 0.50 × baseline": {Against: "baseline", Least: 0.5},
		"≤ 3.00 × before":   {Against: "before", Most: 3},
		"≤ 300":             {Most: 300},
		"≥ 100,000":         {Least: 100_000},
	} {
		if got := g.String(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestInTurnReversesTheOrderEveryOtherRound(t *testing.T) {
	var order, samples []string
	side := func(name string, value float64) measure.Measured {
		return measure.Measured{Name: name, Detail: "of " + name, Round: func() (measure.Sample, error) {
			order = append(order, name)
			value++
			return measure.Sample{Value: value}, nil
		}}
	}
	r := measure.Result{Workload: "send"}
	say := func(side string, round int, s measure.Sample) {
		samples = append(samples, fmt.Sprintf("%s%d=%g", side, round, s.Value))
	}
	if err := measure.InTurn(&r, 3, say, side("a", 0), side("b", 10), side("c", 20)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(order); got != "[a b c c b a a b c]" {
		t.Error(got)
	}
	if got := fmt.Sprint(samples); got != "[a0=1 b0=11 c0=21 c1=22 b1=12 a1=2 a2=3 b2=13 c2=23]" {
		t.Error(got)
	}
	if got := fmt.Sprint(r.Sides[0].Values(), r.Sides[1].Values(), r.Sides[2].Values()); got != "[1 2 3] [11 12 13] [21 22 23]" {
		t.Error(got)
	}
	if r.Sides[1].Name != "b" || r.Sides[1].Detail != "of b" {
		t.Error(r.Sides[1])
	}
}

func TestInTurnReturnsTheErrorWithItsSide(t *testing.T) {
	down, rounds := errors.New("down"), 0
	r := measure.Result{Workload: "send", Case: "64 connections"}
	err := measure.InTurn(&r, 3, nil,
		measure.Measured{Name: "a", Round: func() (measure.Sample, error) { rounds++; return measure.Sample{Value: 1}, nil }},
		measure.Measured{Name: "b", Round: func() (measure.Sample, error) { return measure.Sample{}, down }})
	if !errors.Is(err, down) || err.Error() != "send, 64 connections: b: down" {
		t.Error(err)
	}
	if rounds != 1 || len(r.Sides[0].Samples) != 1 || len(r.Sides[1].Samples) != 0 {
		t.Error(rounds, r.Sides)
	}
}

func TestInTurnWithoutRoundsMeasuresNothing(t *testing.T) {
	var r measure.Result
	if err := measure.InTurn(&r, 0, nil, measure.Measured{Name: "a"}); err != nil || len(r.Sides) != 1 || len(r.Sides[0].Samples) != 0 {
		t.Error(err, r)
	}
}
