package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// printJSON prints a value as indented JSON. It keeps numbers as they are.
func printJSON(std *stdio, v any) error {
	text, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s\n", text)
	return err
}

// table prints rows in columns.
type table struct {
	w *tabwriter.Writer
}

func newTable(std *stdio, head ...string) *table {
	t := &table{tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t")) // the writer keeps its error for flush
}

func (t *table) flush() error { return t.w.Flush() }

// printable replaces unprintable characters, so that the text of others cannot control the
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\u00b7'
	}, s)
}

// shorten cuts a text to at most n characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
