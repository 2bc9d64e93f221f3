package measure

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Run holds all results of one run and its machine.
type Run struct {
	Machine Machine       `json:"machine"`
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	// Mode is the kind of run: "full", "quick", "compare" for two builds of the
	// service, or "comparisons" for the other systems.
	Mode    string   `json:"mode"`
	Results []Result `json:"results"`
}

// Write writes the run to a file, atomically. The same run gives the same bytes.
// Durations are written in Go's format. A figure that is not finite is written as null
// and read as NaN.
func (r Run) Write(path string) error {
	text, err := json.Marshal(r, json.Deterministic(true), json.WithMarshalers(marshalers), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// Read reads a file that [Run.Write] wrote.
func Read(path string) (Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Run{}, fmt.Errorf("read results: %w", err)
	}
	var r Run
	if err := json.Unmarshal(text, &r, json.WithUnmarshalers(unmarshalers)); err != nil {
		return Run{}, fmt.Errorf("read results: %s: %w", filepath.Base(path), err)
	}
	return r, nil
}

var marshalers = json.JoinMarshalers(
	json.MarshalToFunc(func(to *jsontext.Encoder, d time.Duration) error {
		return to.WriteToken(jsontext.String(d.String()))
	}),
	json.MarshalToFunc(func(to *jsontext.Encoder, f float64) error {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return to.WriteToken(jsontext.Null)
		}
		return errors.ErrUnsupported
	}),
)

var unmarshalers = json.JoinUnmarshalers(
	json.UnmarshalFunc(func(text []byte, d *time.Duration) error {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		parsed, err := time.ParseDuration(s)
		*d = parsed
		return err
	}),
	json.UnmarshalFromFunc(func(from *jsontext.Decoder, f *float64) error {
		if from.PeekKind() != 'n' {
			return errors.ErrUnsupported
		}
		*f = math.NaN()
		return from.SkipValue()
	}),
)

// replace replaces a file atomically. The commit point is the rename: before it the old
// file is in place, after it the new one. The sync of the directory makes the rename
// durable.
func replace(path string, text []byte) error {
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // without effect after the rename
	if err := fill(temporary, text); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

func fill(file *os.File, text []byte) error {
	defer func() { _ = file.Close() }() // without effect after the first Close
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil { // results are readable by everybody
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}
