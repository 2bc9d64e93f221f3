package auth

import (
	"encoding/base64"
	"strings"
)

// scheme is the scheme of an Authorization header, in lower case.
type scheme string

const (
	bearer scheme = "bearer"
	django scheme = "token" // of Django REST framework
	basic  scheme = "basic" // for clients that accept only a URL: http://any:token@host
)

// credentials returns the token in an Authorization header, and its scheme. In the
// Basic scheme (RFC 7617) the token is the password, and the user is ignored.
func credentials(header string) (token string, how scheme) {
	name, rest, ok := strings.Cut(header, " ")
	if !ok {
		return "", ""
	}
	rest = strings.TrimSpace(rest)
	switch how = scheme(strings.ToLower(name)); how {
	case bearer, django:
		return rest, how
	case basic:
		pair, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return "", how
		}
		_, password, _ := strings.Cut(string(pair), ":")
		return password, how
	}
	return "", ""
}
