package main

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stayafrica/messaging/auth"
)

type tokensCmd struct {
	New newTokenCmd `cmd:"" help:"Make a token for TOKENS_FILE."`
}

// newTokenCmd prints a new secret and the entry of the tokens file for it. The secret is
// printed once and stored nowhere.
type newTokenCmd struct {
	Name    string   `arg:"" help:"Name of the token, for logs."`
	Scopes  []string `placeholder:"SCOPE,…" required:"" help:"What the token may do: send, take, peek, follow, operate, metrics."`
	Take    []string `placeholder:"USER,…" help:"Users whose messages it may take, such as 789 or tenant-a.*; all by default."`
	Peek    []string `placeholder:"USER,…" help:"Users at whose queues it may look; all by default."`
	Follow  []string `placeholder:"USER,…" help:"Users whose messages it may follow; all by default."`
	Expires string   `placeholder:"TIME" help:"Time from which it is refused, such as 2027-01-31 or 2027-01-31T12:00:00Z."`
	JSON    bool     `negatable:"" name:"json" help:"Print JSON."`
}

// Run implements the command.
func (c *newTokenCmd) Run(std *stdio) error {
	secret := auth.NewSecret()
	entry := tokenEntry{Name: c.Name, Hash: auth.HashOf(secret), Scopes: c.Scopes, Take: c.Take, Peek: c.Peek, Follow: c.Follow, Expires: c.Expires}
	file, err := yaml.Marshal(tokensFile{Tokens: []tokenEntry{entry}})
	if err != nil {
		return fmt.Errorf("print the token: %w", err)
	}
	if _, err := parseTokensFile(file, nil); err != nil {
		return usagef("%s", err.Error())
	}
	if c.JSON {
		return printJSON(std, struct {
			Name   string `json:"name"`
			Secret string `json:"secret"`
			Entry  string `json:"entry"`
		}{c.Name, secret, string(file)})
	}
	_, lines, _ := strings.Cut(string(file), "\n")
	_, err = fmt.Fprintf(std.out, "The secret, which is shown only now:\n\n    %s\n\nAdd this to the file of TOKENS_FILE (under tokens:):\n\n%s", secret, lines)
	if err != nil {
		return fmt.Errorf("print the token: %w", err)
	}
	return nil
}
