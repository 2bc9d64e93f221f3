package main

import (
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// escapingWriter writes the output of a command. Characters that could control a terminal
// are written as \uXXXX: C0 and C1 controls, bidirectional and other format characters, and
// bytes that are not UTF-8. Line breaks and tabs stay. In JSON, such characters are in
// strings only, where the escape means the same.
type escapingWriter struct{ w io.Writer }

// Write implements [io.Writer].
func (e escapingWriter) Write(p []byte) (int, error) {
	if !needsEscape(p) {
		return e.w.Write(p) //nolint:wrapcheck // a writer's own error
	}
	escaped := make([]byte, 0, len(p)+len(p)/8)
	for rest := p; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if isShown(r) && (r != utf8.RuneError || size > 1) {
			escaped = append(escaped, rest[:size]...)
		} else {
			escaped = appendEscape(escaped, r)
		}
		rest = rest[size:]
	}
	if _, err := e.w.Write(escaped); err != nil {
		return 0, err //nolint:wrapcheck // a writer's own error
	}
	return len(p), nil
}

func needsEscape(p []byte) bool {
	for _, c := range p {
		if (c < ' ' && c != '\n' && c != '\t') || c >= 0x7f {
			return true
		}
	}
	return false
}

func isShown(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }

// appendEscape appends a rune in JSON's escape, which has two parts beyond 16 bits.
func appendEscape(dst []byte, r rune) []byte {
	const low = 0x10000
	if r >= low {
		r -= low
		dst = appendEscape(dst, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	hex := strconv.FormatInt(int64(r), 16)
	return append(append(append(dst, `\u`...), "0000"[len(hex):]...), hex...)
}
