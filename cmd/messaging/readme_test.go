package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReadmeDescribesEverySetting keeps the table in the README that of the
// program.
func TestReadmeDescribesEverySetting(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for i := range settings {
		s := &settings[i]
		fallback := "empty"
		if s.fallback != "" {
			fallback = "`" + s.fallback + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", s.env(), fallback, s.help)
	}
	_, rest, _ := strings.Cut(string(text), "| environment, file, flag | default | |\n| --- | --- | --- |\n")
	found, _, _ := strings.Cut(rest, "\n\n")
	if found+"\n" != table.String() {
		t.Errorf("the README's table should be:\n%s", table.String())
	}
}
