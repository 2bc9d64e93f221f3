package main

import (
	"os"
	"strings"
	"testing"
)

func TestNoHelpIsOfAMetricThatIsGone(t *testing.T) {
	var source strings.Builder
	for _, path := range []string{"metrics.go", "../../http/server.go", "../../http/metrics.go", "../../http/logins.go"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for name := range metricHelp {
		if !strings.Contains(source.String(), name) {
			t.Errorf("%s has help, but the program does not write it", name)
		}
	}
}
