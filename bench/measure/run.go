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

// Run is all that was measured in one go, and on what.
type Run struct {
	Machine Machine       `json:"machine"`
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	// Mode is how thorough it was: "full", "quick", or "peers" when only the other
	// services were measured.
	Mode    string   `json:"mode"`
	Results []Result `json:"results"`
}

// Write puts the run into a file, whole or not at all. The same run gives the same
// bytes. Durations are written as Go writes them; a figure that is not finite as
// null, which is read as not a number.
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

// Read gives the run of a file that [Run.Write] made.
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

// replace writes a file anew. Its commit point is the rename: before it the old
// file is there, after it the new one, and the sync of the directory keeps it so.
func replace(path string, text []byte) error {
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // of no consequence after the rename
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
	defer func() { _ = file.Close() }() // a second time is of no consequence
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil { // results are for everybody
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}
