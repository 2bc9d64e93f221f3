// Package hostiletest reads the corpus of hostile requests (testdata/hostile) for the
// fuzz tests of several packages.
package hostiletest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
)

// Bodies returns the request bodies of a file of the corpus, which is in dir. It does not
// expand repetitions: a body of a million repetitions is not a useful seed.
func Bodies(tb testing.TB, dir, file string) (bodies [][]byte) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		tb.Fatal(err)
	}
	for _, part := range strings.Split(string(text), ".send --\n")[1:] {
		request, _, _ := strings.Cut(part, "\n-- ")
		_, body, _ := strings.Cut(request, "\n\n")
		if raw, err := strconv.Unquote(`"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(body) + `"`); err == nil {
			bodies = append(bodies, []byte(raw))
		}
	}
	if len(bodies) == 0 {
		tb.Fatalf("%s has no bodies", file)
	}
	return bodies
}

// NoInternal fails the test if err is an internal error, which a client must not be able
// to cause.
func NoInternal(tb testing.TB, what string, err error) {
	tb.Helper()
	if err != nil && messaging.CodeOf(err) == messaging.CodeInternal {
		tb.Errorf("%s: %v", what, err)
	}
}
