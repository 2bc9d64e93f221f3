package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// compare lists what is in a JSON text and is not so in another, but for some members.
func compare(want, got []byte, over []string) (differences []string, err error) {
	decode := func(text []byte) (value any) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		err = errors.Join(err, decoder.Decode(&value))
		return value
	}
	w, g := decode(want), decode(got)
	if w, ok := w.(object); ok {
		for _, name := range over {
			delete(w, name)
		}
	}
	differ("", w, g, func(path string, want, got any) {
		differences = append(differences, fmt.Sprintf("%s: %v, want %v", path, got, want))
	})
	return differences, err
}

// differ walks two values. Lists must be as long; objects may have members more.
func differ(path string, want, got any, tell func(path string, want, got any)) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			tell(path, want, got)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if value, ok := g[name]; ok {
				differ(path+"."+name, w[name], value, tell)
			} else {
				tell(path+"."+name, w[name], "missing")
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			tell(path, want, got)
			return
		}
		for i := range w {
			differ(fmt.Sprintf("%s[%d]", path, i), w[i], g[i], tell)
		}
	default:
		if want != got {
			tell(path, want, got)
		}
	}
}
