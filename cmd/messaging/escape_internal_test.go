package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestOutputCannotControlATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\n":   "plain\ttext\n",
		"Grüße 你好 🙂":      "Grüße 你好 🙂",
		"\x1b[2J":         `\u001b[2J`,
		"\u009b2J":        `\u009b2J`, // CSI in C1
		"a\u202eb":        `a\u202eb`, // right to left
		"a\u2066b\u200fc": `a\u2066b\u200fc`,
		"\x7f\r":          `\u007f\u000d`,
		"\xff\xc0":        `\ufffd\ufffd`,
		"\U000e0041 tag":  `\udb40\udc41 tag`,
		"kept: \ufffd":    "kept: \ufffd",
	} {
		var out strings.Builder
		if n, err := (escapingWriter{&out}).Write([]byte(text)); n != len(text) || err != nil || out.String() != want {
			t.Errorf("%q: %q, %d, %v; want %q", text, out.String(), n, err, want)
		}
	}
}

// In JSON the escapes mean the characters that they replace.
func TestEscapedJSONIsTheSame(t *testing.T) {
	const text = "a\u202e\u009b\U000e0041🙂\x7f"
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	_, _ = escapingWriter{&out}.Write(quoted)
	var got string
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got != text {
		t.Errorf("%s: %q, %v; want %q", out.String(), got, err, text)
	}
}
