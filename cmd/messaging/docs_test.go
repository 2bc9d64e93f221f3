package main

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/alecthomas/kong"
)

// repository is the root of the repository, relative to this package.
const repository = "../.."

// pages returns all pages of the repository: README.md, docs/, and those beside the code.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case entry.IsDir() && path != repository && (strings.HasPrefix(name, ".") || name == "results" || name == "bin" || name == "data"):
			return filepath.SkipDir
		case filepath.Ext(name) == ".md":
			found = append(found, path)
		}
		return nil
	})
	if err != nil || len(found) < 20 {
		t.Fatalf("found %d pages: %v", len(found), err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fences = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	spans  = regexp.MustCompile("`[^`\n]*`")
	links  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	titles = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// TestLinks checks that every relative link of every page leads to a file and, if it names
// one, to a heading.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		text := spans.ReplaceAllString(fences.ReplaceAllString(read(t, page), ""), "`code`")
		for _, match := range links.FindAllStringSubmatch(text, -1) {
			if problem := brokenLink(page, match[1]); problem != "" {
				t.Errorf("%s: the link to %s: %s", page, match[1], problem)
			}
		}
	}
}

func brokenLink(page, link string) (problem string) {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" {
		return "" // another site
	}
	target := page
	if u.Path != "" {
		target = filepath.Join(filepath.Dir(page), u.Path)
	}
	if _, err := os.Stat(target); err != nil {
		return "there is no such file"
	}
	if u.Fragment == "" {
		return ""
	}
	text, err := os.ReadFile(target)
	if err != nil {
		return err.Error()
	}
	if !anchors(string(text))[u.Fragment] {
		return "the page has no such heading"
	}
	return ""
}

// anchors returns the headings of a page as GitHub names them in addresses.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, match := range titles.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		found[anchor(match[1])] = true
	}
	return found
}

func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(title))
}

func TestBrokenLinksAreFound(t *testing.T) {
	page := filepath.Join(repository, "docs", "README.md")
	for link, good := range map[string]bool{
		"reference/api.md": true, "reference/api.md#a-get-consumes": true, "#how-to": true, "https://example.com/x": true, "how-to/": true,
		"reference/nothing.md": false, "reference/api.md#nothing": false, "#nothing": false,
	} {
		if problem := brokenLink(page, link); (problem == "") != good {
			t.Errorf("%s: %q", link, problem)
		}
	}
}

// TestNamedFiles checks that each source file that a page of docs names exists. Decision
// records keep the names of their time.
func TestNamedFiles(t *testing.T) {
	named := regexp.MustCompile("`([a-z/_]+/[a-z_]+\\.go)`")
	for _, page := range pages(t) {
		if !strings.HasPrefix(page, filepath.Join(repository, "docs")) || filepath.Base(filepath.Dir(page)) == "adr" {
			continue
		}
		for _, match := range named.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(repository, match[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", page, match[1])
			}
		}
	}
}

// TestLogLines checks that the program contains the beginning of each log line that docs
// explain, because operators search for it.
func TestLogLines(t *testing.T) {
	_, table, ok := strings.Cut(read(t, filepath.Join(repository, "docs/how-to/full-disk.md")), "## Log lines")
	lines := regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(table, -1)
	if !ok || len(lines) < 5 {
		t.Fatalf("found %d lines of the log", len(lines))
	}
	lines = append(lines, []string{"", "the backend does not take messages: they are kept and tried again until it does"})
	var program strings.Builder
	for _, folder := range []string{"cmd/messaging", "engine", "storage", "persist"} {
		files, err := filepath.Glob(filepath.Join(repository, folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", folder, err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				program.WriteString(read(t, file))
			}
		}
	}
	for _, line := range lines {
		const enough = len("the disk is full: messages") // the rest is formatted
		if !strings.Contains(program.String(), `"`+line[1][:enough]) {
			t.Errorf("the program does not log %q", line[1])
		}
	}
}

// TestIndexes checks that each page of docs and each decision record is in its index.
func TestIndexes(t *testing.T) {
	for index, folder := range map[string]string{"docs/README.md": "docs", "docs/adr/README.md": "docs/adr"} {
		text := read(t, filepath.Join(repository, index))
		for _, page := range pages(t) {
			name, err := filepath.Rel(filepath.Join(repository, folder), page)
			if err != nil || strings.HasPrefix(name, "..") || name == "README.md" || (folder == "docs" && filepath.Dir(name) == "adr" && name != "adr/README.md") {
				continue
			}
			if strings.Count(text, "]("+filepath.ToSlash(name)+")") != 1 {
				t.Errorf("%s does not have exactly one link to %s", index, name)
			}
		}
	}
}

// TestReferenceIsComplete checks that the reference mentions each error code, metric, route
// and command of the program.
func TestReferenceIsComplete(t *testing.T) {
	mentions := func(page string, names ...string) {
		t.Helper()
		if len(names) < 10 {
			t.Fatalf("only %d names for %s", len(names), page)
		}
		text := read(t, filepath.Join(repository, "docs/reference", page))
		for _, name := range names {
			if !strings.Contains(text, name) {
				t.Errorf("docs/reference/%s does not mention %s", page, name)
			}
		}
	}
	found := func(pattern string, files ...string) (names []string) {
		t.Helper()
		for _, file := range files {
			matches, err := filepath.Glob(filepath.Join(repository, file))
			if err != nil || len(matches) == 0 {
				t.Fatalf("no files %s: %v", file, err)
			}
			for _, match := range matches {
				if strings.HasSuffix(match, "_test.go") {
					continue
				}
				for _, name := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, match), -1) {
					names = append(names, name[1])
				}
			}
		}
		return names
	}
	mentions("errors.md", found(`(?m)^\tCode\w+ +Code = "([a-z_]+)"`, "errors.go")...)
	mentions("metrics.md", found("[\"`](messaging_[a-z_]+)", "cmd/messaging/metrics.go", "http/metrics.go", "http/server.go")...)
	mentions("api.md", found(`path: "(/[a-z./_-]*)`, "http/routes.go")...)
	mentions("cli.md", calledCommands(t)...)
}

// calledCommands returns the commands as they are called: jobs show, and so on.
func calledCommands(t *testing.T) (names []string) {
	t.Helper()
	parser, err := kong.New(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		var path []string
		for node := leaf; node != nil && node.Type == kong.CommandNode; node = node.Parent {
			path = append([]string{node.Name}, path...)
		}
		names = append(names, "`"+strings.Join(path, " "))
	}
	return names
}

// TestReadmeIsShort keeps the README short enough for a newcomer.
func TestReadmeIsShort(t *testing.T) {
	if lines := strings.Count(read(t, filepath.Join(repository, "README.md")), "\n"); lines >= 150 {
		t.Errorf("the README has %d lines: move what is not for a newcomer to docs", lines)
	}
}
