package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
)

// brief formats a figure for an axis: 20k, 1.5M.
func brief(f float64) string {
	for _, unit := range []struct {
		size float64
		sign string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(f) >= unit.size {
			return strconv.FormatFloat(f/unit.size, 'g', 4, 64) + unit.sign
		}
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// linearTicks returns at least four ticks, at multiples of 1, 2 or 5 times a power of
// ten. The library's default of three is too few.
func linearTicks(least, most float64) []plot.Tick {
	step := roundDown((most - least) / 4)
	var ticks []plot.Tick
	first := math.Ceil(least / step)
	for n := range 10 { // never more than nine steps
		if value := (first + float64(n)) * step; value <= most {
			ticks = append(ticks, plot.Tick{Value: value, Label: brief(value)})
		}
	}
	return ticks
}

// logTicks labels each 1, 2 and 5 if there are at most few decades, and otherwise the
// decades or some of them.
type logTicks struct{ few int }

// Ticks returns the ticks between two values, which must be positive.
func (l logTicks) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	low, high := int(math.Floor(math.Log10(least))), int(math.Ceil(math.Log10(most)))
	every := 1 + (high-low)/8
	for decade := low; decade <= high; decade++ {
		for digit := 1; digit < 10; digit++ {
			value := float64(digit) * math.Pow10(decade)
			if value < least*0.999 || value > most*1.001 {
				continue
			}
			tick := plot.Tick{Value: value}
			if digit == 1 && (decade-low)%every == 0 || (digit == 2 || digit == 5) && high-low <= l.few {
				tick.Label = brief(value)
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// logarithmic makes an axis logarithmic. All drawn values must be positive. The ends of
// the axis are moved to the nearest 1, 2 or 5, so that there is always a labelled tick.
// few is the number of decades up to which there is space for more labels than the
// powers of ten.
func logarithmic(axis *plot.Axis, few int) {
	axis.Scale = plot.LogScale{}
	axis.Tick.Marker = logTicks{few}
	axis.Min, axis.Max = roundDown(axis.Min), roundUp(axis.Max)
	if axis.Min >= axis.Max {
		axis.Min, axis.Max = axis.Min/2, axis.Max*2
	}
}

func roundDown(f float64) float64 {
	decade := math.Pow10(int(math.Floor(math.Log10(f))))
	for _, digit := range []float64{5, 2} {
		if digit*decade <= f*1.0001 {
			return digit * decade
		}
	}
	return decade
}

func roundUp(f float64) float64 {
	decade := math.Pow10(int(math.Floor(math.Log10(f))))
	for _, digit := range []float64{1, 2, 5} {
		if digit*decade >= f*0.9999 {
			return digit * decade
		}
	}
	return 10 * decade
}

// percentiles makes the horizontal axis one of percentiles: a part p of all calls is at
// 1/(1-p), so that each nine has the same width.
func percentiles(axis *plot.Axis) {
	axis.Scale = plot.LogScale{}
	axis.Min, axis.Max = 1, max(axis.Max, 10)
	ticks := plot.ConstantTicks{{Value: 1, Label: "0"}, {Value: 2, Label: "50"}}
	every := 1 + int(math.Log10(axis.Max))/6 // the more nines, the longer their labels
	for nines, value := 1, 10.0; value <= axis.Max*1.001; nines, value = nines+1, value*10 {
		tick := plot.Tick{Value: value}
		if nines%every == 1%every {
			tick.Label = nine(nines)
		}
		ticks = append(ticks, tick)
	}
	axis.Tick.Marker = ticks
}

// nine returns 90, 99, 99.9 and so on.
func nine(n int) string {
	switch n {
	case 1:
		return "90"
	case 2:
		return "99"
	}
	return fmt.Sprintf("99.%s", strings.Repeat("9", n-2))
}
