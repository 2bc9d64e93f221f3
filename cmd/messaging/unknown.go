package main

import (
	"regexp"
	"slices"
	"strings"
)

// otherVariables are the known variables with the prefix that are not settings: that of the
// configuration file, and those of special builds and tests.
var otherVariables = []string{"MESSAGING_CONFIG", "MESSAGING_CPU_PROFILE", "MESSAGING_FAULT"}

// testPrefix is the prefix of variables that only tests read.
const testPrefix = envPrefix + "TEST_"

// ofKubernetes matches the variables that Kubernetes sets in every container beside a
// service whose name begins with messaging.
var ofKubernetes = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)

// unknownVariables returns one line about the variables that look like settings but are
// not. It returns "" if there are none.
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

// isForeign reports whether a variable with the prefix belongs to a test or to Kubernetes.
func isForeign(name, text string) bool {
	return strings.HasPrefix(name, testPrefix) || ofKubernetes.MatchString(name) ||
		(strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://"))
}

// knownVariables returns the names with the prefix that the program reads.
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
