package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLicensesAreComplete checks that LICENSES/ has every module that is linked into the
// program, in its version.
func TestLicensesAreComplete(t *testing.T) {
	const dir = "../../LICENSES"
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		if module, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			modules[module] = true
			if !strings.Contains(string(index), "| "+module+" | "+version+" |") {
				t.Errorf("LICENSES/README.md does not have %s %s: run make licenses", module, version)
			}
			if files, err := os.ReadDir(filepath.Join(dir, module)); err != nil || len(files) == 0 {
				t.Errorf("LICENSES/%s: %v", module, err)
			}
		}
	}
	if n := strings.Count(string(index), "\n| ") - 3; n != len(modules) { // without the head, its line and Go itself
		t.Errorf("LICENSES/README.md has %d modules, and %d are linked: run make licenses", n, len(modules))
	}
}
