package messaging_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFunctionsStayShort: nine of ten functions of the program have at most 24 lines.
// The linter bounds the longest function and the longest file.
func TestFunctionsStayShort(t *testing.T) {
	var lines []int
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		found, err := functionLines(path)
		lines = append(lines, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	if len(lines) < 1000 {
		t.Fatalf("only %d functions were found", len(lines))
	}
	if p90 := lines[len(lines)*9/10]; p90 > 24 {
		t.Errorf("a tenth of %d functions have more than %d lines; split the longest (the median is %d)", len(lines), p90, lines[len(lines)/2])
	}
}

// functionLines returns the numbers of lines of the functions of a file.
func functionLines(path string) (lines []int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, bytes.NewReader(text), parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			lines = append(lines, files.Position(f.End()).Line-files.Position(f.Pos()).Line+1)
		}
	}
	return lines, nil
}
