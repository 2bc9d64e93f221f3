package main

import (
	"regexp"
	"slices"
	"strings"
)

// otherVariables are variables with the prefix that are no settings: that of the
// configuration file, and those of special builds and of tests.
var otherVariables = []string{"MESSAGING_CONFIG", "MESSAGING_CPU_PROFILE", "MESSAGING_FAULT"}

// testPrefix begins the variables that only tests read.
const testPrefix = envPrefix + "TEST_"

// ofKubernetes are the variables that a service named messaging, or with a name
// that begins so, puts into every container beside it.
var ofKubernetes = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)

// unknownVariables says in one line which variables of an environment look like
// settings and are none; it is empty where all are known.
func unknownVariables(environ []string) string {
	known := knownVariables()
	var unknown []string
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || isForeign(name, text) {
			continue
		}
		line := name + " is not a setting"
		if near := nearest(name, known); near != "" {
			line += " (did you mean " + near + "?)"
		}
		unknown = append(unknown, line)
	}
	slices.Sort(unknown)
	return strings.Join(unknown, ", ")
}

// isForeign knows variables with the prefix that are for somebody else.
func isForeign(name, text string) bool {
	return strings.HasPrefix(name, testPrefix) || ofKubernetes.MatchString(name) ||
		(strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://"))
}

// knownVariables are the names with the prefix that the program reads.
func knownVariables() []string {
	known := slices.Clone(otherVariables)
	for i := range settings {
		s := &settings[i]
		for _, name := range s.environment() {
			if !strings.HasPrefix(name, envPrefix) {
				continue
			}
			known = append(known, name)
			if s.secret {
				known = append(known, name+"_FILE")
			}
		}
	}
	return known
}
