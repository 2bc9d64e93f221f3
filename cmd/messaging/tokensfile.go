package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/stayafrica/messaging/auth"
)

// tokensFile is the file of TOKENS_FILE. It has hashes, so it does not reveal the secrets.
type tokensFile struct {
	Tokens []tokenEntry `yaml:"tokens"`
}

// tokenEntry is a token of the file. It has either a hash of its secret or the name in a
// client certificate.
type tokenEntry struct {
	Name        string       `yaml:"name"`
	Hash        string       `yaml:"hash,omitempty"`
	Certificate string       `yaml:"certificate,omitempty"`
	Scopes      []string     `yaml:"scopes,flow"`
	Take        []string     `yaml:"take,flow,omitempty"`
	Peek        []string     `yaml:"peek,flow,omitempty"`
	Follow      []string     `yaml:"follow,flow,omitempty"`
	Expires     string       `yaml:"expires,omitempty"`
	Limits      *tokenLimits `yaml:"limits,omitempty"`
}

type tokenLimits struct {
	RequestsPerSecond float64 `yaml:"requests_per_second,omitempty"`
	Connections       int     `yaml:"connections,omitempty"`
	LongPolls         int     `yaml:"long_polls,omitempty"`
	Leases            int     `yaml:"leases,omitempty"`
	Jobs              int     `yaml:"jobs,omitempty"`
	BodyBytes         string  `yaml:"body_bytes,omitempty"`
}

// maxTokensFile bounds the size of the file, and so the number of tokens.
const maxTokensFile = 16 << 20

// loadTokensFile reads TOKENS_FILE. static are the tokens of API_TOKENS, whose names must
// not be used again.
func loadTokensFile(path string, static []auth.Token) ([]auth.ScopedToken, error) {
	text, err := readPrivate("TOKENS_FILE", path, maxTokensFile)
	if err != nil {
		return nil, err
	}
	tokens, err := parseTokensFile(text, static)
	if err != nil {
		return nil, usagef("TOKENS_FILE %q: %s", path, err.Error())
	}
	return tokens, nil
}

// readPrivate reads a file that is named by a setting and that other users must not be able
// to read.
func readPrivate(setting, path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("%s %q cannot be read: %s", setting, path, fileFault(err))
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode()&othersRead != 0 {
		return nil, usagef("%s %q can be read by every user of this machine: chmod o-rwx it (in Kubernetes: defaultMode: 0440)", setting, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, usagef("%s %q cannot be read: %s", setting, path, fileFault(err))
	case int64(len(text)) > limit:
		return nil, usagef("%s %q is larger than %d bytes", setting, path, limit)
	}
	return text, nil
}

// othersRead and othersWrite are the permissions of users that are neither the owner of a
// file nor in its group.
const (
	othersRead  = 0o004
	othersWrite = 0o002
)

func parseTokensFile(text []byte, static []auth.Token) ([]auth.ScopedToken, error) {
	var file tokensFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlFault(err)
	}
	names, secrets := make(map[string]bool), make(map[string]bool)
	for _, t := range static {
		names[t.Name] = true
	}
	tokens := make([]auth.ScopedToken, 0, len(file.Tokens))
	for i, entry := range file.Tokens {
		secret := entry.Hash + entry.Certificate
		switch {
		case !tokenName.MatchString(entry.Name):
			return nil, fmt.Errorf("token %d needs a name of 1 to 64 letters, digits, hyphens, underscores and dots", i+1)
		case names[entry.Name]:
			return nil, fmt.Errorf("the name %s is there twice (or also in API_TOKENS)", entry.Name)
		case secrets[secret]:
			return nil, fmt.Errorf("token %s has the same secret as another one", entry.Name)
		}
		names[entry.Name], secrets[secret] = true, true
		token, err := entry.token()
		if err != nil {
			return nil, fmt.Errorf("token %s: %w", entry.Name, err)
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		return nil, errors.New("it has no tokens: make one with messaging tokens new")
	}
	return tokens, nil
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// yamlFault returns an error without the name of the library.
func yamlFault(err error) error {
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " ")
	text = strings.TrimPrefix(text, "unmarshal errors: ")
	text = regexp.MustCompile(` in type main\.\w+`).ReplaceAllString(text, "")
	return fmt.Errorf("it is not a valid tokens file: %s", strings.TrimSpace(text))
}

// token returns the token of an entry.
func (e *tokenEntry) token() (t auth.ScopedToken, err error) {
	var ok bool
	switch t.Certificate = e.Certificate; {
	case (e.Hash == "") == (e.Certificate == ""):
		return t, errors.New("it needs either a hash of messaging tokens new, or the name in a certificate")
	case e.Hash != "":
		if t.Hash, ok = auth.ParseHash(e.Hash); !ok {
			return t, errors.New("its hash must be sha256: and 64 hexadecimal digits, as messaging tokens new prints it")
		}
	}
	c := &auth.Caller{Name: e.Name}
	for _, name := range e.Scopes {
		scope, known := auth.ParseScope(name)
		if !known {
			return t, fmt.Errorf("the scope %q is unknown: the scopes are %s", name, strings.Join(auth.ScopeNames(), ", "))
		}
		c.Scope |= scope
	}
	if c.Scope == 0 {
		return t, fmt.Errorf("it needs one scope or more of %s", strings.Join(auth.ScopeNames(), ", "))
	}
	for _, of := range []struct {
		scope auth.Scope
		texts []string
		set   *[]auth.Pattern
	}{{auth.Take, e.Take, &c.Take}, {auth.Peek, e.Peek, &c.Peek}, {auth.Follow, e.Follow, &c.Follow}} {
		if *of.set, err = patterns(of.scope, of.texts, c.Scope); err != nil {
			return t, err
		}
	}
	if e.Expires != "" {
		if c.Expires, err = parseExpiry(e.Expires); err != nil {
			return t, err
		}
	}
	c.Limits, err = e.Limits.limits()
	t.Caller = c
	return t, err
}

// patterns parses the users of a scope. A list that is there must name a user, and its scope
// must be granted: an empty list could be meant as nobody, and means everybody.
func patterns(scope auth.Scope, texts []string, granted auth.Scope) ([]auth.Pattern, error) {
	if texts == nil {
		return nil, nil
	}
	if granted&scope == 0 {
		return nil, fmt.Errorf("it lists users for %s, and does not have that scope", scope)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("its list of users for %s is empty: leave it out for all users", scope)
	}
	all := make([]auth.Pattern, len(texts))
	for i, text := range texts {
		var err error
		if all[i], err = auth.ParsePattern(text); err != nil {
			return nil, fmt.Errorf("%s: %w", scope, err)
		}
	}
	return all, nil
}

func parseExpiry(text string) (time.Time, error) {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("expires %q must be a time such as 2027-01-31 or 2027-01-31T12:00:00Z", text)
}

func (l *tokenLimits) limits() (auth.Limits, error) {
	if l == nil {
		return auth.Limits{}, nil
	}
	of := auth.Limits{RequestsPerSecond: l.RequestsPerSecond, Connections: l.Connections, LongPolls: l.LongPolls, Leases: l.Leases, Jobs: l.Jobs}
	if !(of.RequestsPerSecond >= 0 && of.RequestsPerSecond < 1e9) || min(of.Connections, of.LongPolls, of.Leases, of.Jobs) < 0 {
		return of, errors.New("a limit must be 0 (none) or a positive number")
	}
	if l.BodyBytes == "" {
		return of, nil
	}
	var c Config
	if err := size(1<<10, 1<<40, func(c *Config) *int64 { return &c.MaxInflight })(&c, l.BodyBytes); err != nil {
		return of, fmt.Errorf("the limit body_bytes %w", err)
	}
	of.BodyBytes = c.MaxInflight
	return of, nil
}
