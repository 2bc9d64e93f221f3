package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// parseFailure returns the text for an invalid command line. For an unknown name it
// suggests the nearest known one.
func parseFailure(err error) string {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil {
		return err.Error()
	}
	node := parse.Context.Selected()
	if node == nil {
		node = parse.Context.Model.Node
	}
	return fmt.Sprintf("%s (see %s --help)", describeParse(err, node), commandPath(node))
}

// describeParse distinguishes errors by the texts of the library, which has no types for
// them. A table test covers the texts.
func describeParse(err error, node *kong.Node) string {
	if usage, ok := errors.AsType[*usageError](err); ok {
		return usage.text
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "unknown flag "):
		return unknownFlag(node, culprit(text, "unknown flag "))
	case strings.HasPrefix(text, "unexpected argument "):
		return unexpectedArgument(node, culprit(text, "unexpected argument "))
	case strings.HasPrefix(text, "missing flags: "):
		return fmt.Sprintf("%s needs %s", commandName(node), strings.TrimPrefix(text, "missing flags: "))
	case strings.HasPrefix(text, "expected "), strings.HasPrefix(text, "missing positional arguments "):
		return missing(node)
	case strings.HasPrefix(text, "bool value must be "):
		return "the value of a flag that begins with --no- must be " + switchForm
	}
	return text
}

// culprit returns the name that follows words in a text of the library.
func culprit(text, words string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(text, words), ", did you mean ")
	return name
}

func unknownFlag(node *kong.Node, name string) string {
	var flags []string
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			flags = append(flags, "--"+flag.Name)
			if flag.Tag.Negatable != "" {
				flags = append(flags, "--no-"+flag.Name)
			}
		}
	}
	near := didYouMean(name, flags)
	if near == "" && len(node.Children) > 0 {
		near = ": flags go after the command"
	}
	return fmt.Sprintf("unknown flag %s%s", name, near)
}

func unexpectedArgument(node *kong.Node, name string) string {
	if commands := commandNames(node); len(commands) > 0 {
		return fmt.Sprintf("unknown command %q%s", name, didYouMean(name, commands))
	}
	if len(node.Positional) == 0 {
		return fmt.Sprintf("%s takes no arguments: %q is not allowed", commandName(node), name)
	}
	return fmt.Sprintf("unexpected argument %q for %s: put quotes around a text with spaces", name, commandName(node))
}

// missing returns the text for a missing command or argument.
func missing(node *kong.Node) string {
	if commands := commandNames(node); len(commands) > 0 {
		return fmt.Sprintf("%s needs a command: %s", commandName(node), strings.Join(commands, ", "))
	}
	var needs []string
	for _, arg := range node.Positional {
		if arg.Required && !arg.Set {
			needs = append(needs, fmt.Sprintf("<%s>, %s", arg.Name, phrase(arg.Help)))
		}
	}
	return fmt.Sprintf("%s needs %s", commandName(node), strings.Join(needs, "; and "))
}

// phrase returns a help text without its capital and full stop, for use in a sentence.
func phrase(help string) string {
	first, size := utf8.DecodeRuneInString(help)
	return string(unicode.ToLower(first)) + strings.TrimSuffix(help[size:], ".")
}

func commandNames(node *kong.Node) []string {
	var names []string
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			names = append(names, child.Name)
		}
	}
	return names
}

// commandPath returns a command as the caller writes it: messaging dead-letters list.
func commandPath(node *kong.Node) string {
	if node.Parent == nil || node.Type == kong.ApplicationNode {
		return node.Name
	}
	return commandPath(node.Parent) + " " + node.Name
}

// commandName returns the path without the name of the program.
func commandName(node *kong.Node) string {
	path := commandPath(node)
	if _, command, ok := strings.Cut(path, " "); ok {
		return command
	}
	return path
}

// didYouMean returns a suggestion for a mistyped name, or "".
func didYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// nearest returns the known name with the smallest edit distance, if that is small for the
// length of the name. Otherwise it returns a known name that begins with the name, or "".
func nearest(name string, known []string) string {
	best, least := "", max(2, len(name)/4)+1
	for _, candidate := range known {
		if n := editDistance(name, candidate); n < least {
			best, least = candidate, n
		}
	}
	if best != "" || len(strings.TrimLeft(name, "-")) < 2 {
		return best
	}
	for _, candidate := range known {
		if strings.HasPrefix(candidate, name) {
			return candidate
		}
	}
	return ""
}

// editDistance returns the number of insertions, deletions and replacements of bytes
// between two names.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
