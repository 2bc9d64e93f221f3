package hostiletest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	archiveHead = regexp.MustCompile(`(?m)^-- (.*)\.(send|want) --\n`)
	repeated    = regexp.MustCompile(`(?s)<<(\d+) x (.*?)>>`)
	manyKeys    = regexp.MustCompile(`<<(\d+) keys>>`)
)

// Case is one pair of files of testdata/hostile: the bytes to send, and the
// expected response.
type Case struct {
	Name, Send string
	Short      bool // the case is one complete request in short form
	Status     int
	Wants      []Want
}

// Want is one line about a response: "has" and "never" test for a text in it,
// "kept" for a text in the receiver's queue after it.
type Want struct{ Kind, Text string }

// Cases reads the corpus, which is in dir.
func Cases(tb testing.TB, dir string) (cases []Case) {
	tb.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(archives) == 0 {
		tb.Fatalf("no cases: %v", err)
	}
	for _, path := range archives {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		cases = append(cases, casesOf(tb, string(text))...)
	}
	return cases
}

func casesOf(tb testing.TB, text string) (cases []Case) {
	tb.Helper()
	heads := archiveHead.FindAllStringSubmatchIndex(text, -1)
	content := func(i int) string {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		return text[heads[i][1]:end]
	}
	short := strings.Contains(text[:heads[0][0]], "a request in short")
	write := onTheWire
	if short {
		write = inShort
	}
	for i := 0; i+1 < len(heads); i += 2 {
		c := Case{Name: text[heads[i][2]:heads[i][3]], Send: write(tb, content(i)), Short: short}
		first, rest, _ := strings.Cut(content(i+1), "\n")
		var err error
		if c.Status, err = strconv.Atoi(first); err != nil {
			tb.Fatalf("%s: %v", c.Name, err)
		}
		for line := range strings.Lines(rest) {
			kind, part, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			c.Wants = append(c.Wants, Want{kind, expanded(unescaped(tb, part))})
		}
		cases = append(cases, c)
	}
	return cases
}

// unescaped decodes Go's escapes in a line.
func unescaped(tb testing.TB, line string) string {
	tb.Helper()
	raw, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
	if err != nil {
		tb.Fatalf("%q: %v", line, err)
	}
	return raw
}

// expanded expands the repetitions in a case.
func expanded(text string) string {
	text = repeated.ReplaceAllStringFunc(text, func(match string) string {
		parts := repeated.FindStringSubmatch(match)
		n, _ := strconv.Atoi(parts[1]) // the pattern has digits only
		return strings.Repeat(parts[2], n)
	})
	return manyKeys.ReplaceAllStringFunc(text, func(match string) string {
		n, _ := strconv.Atoi(manyKeys.FindStringSubmatch(match)[1])
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":0,`, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	})
}

// onTheWire returns the bytes to send for the lines of a case.
func onTheWire(tb testing.TB, text string) string {
	tb.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(unescaped(tb, strings.TrimSuffix(line, "\n")) + "\r\n")
	}
	return b.String()
}

// inShort returns the bytes to send for a request in short form. It adds the headers
// that every request needs, unless the request has them.
func inShort(tb testing.TB, text string) string {
	tb.Helper()
	head, body, hasBody := strings.Cut(strings.TrimSuffix(text, "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	for i := range lines {
		lines[i] = expanded(unescaped(tb, lines[i]))
	}
	var parts []string
	for line := range strings.Lines(body) {
		text, ended := strings.CutSuffix(line, "\n")
		if text = unescaped(tb, text); ended {
			text += "\n"
		}
		parts = append(parts, text)
	}
	body = expanded(strings.Join(parts, ""))
	standard := []string{"Host: localhost", "Connection: close"}
	if hasBody {
		standard = append(standard, "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body)))
	}
	lines[0] += " HTTP/1.1"
	for _, header := range standard {
		name, _, _ := strings.Cut(header, ":")
		if !strings.Contains(head, "\n"+name+":") {
			lines = append(lines, header)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}
