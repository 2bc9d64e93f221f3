package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/stayafrica/messaging/auth"
)

// leastSecret is the minimum length of a secret: 128 bits, if each character is a random
// byte. Secrets from shortSecret on are accepted with a warning in this release.
const (
	leastSecret = 16
	shortSecret = 8
)

const makeSecret = "make one with: openssl rand -hex 32"

// checkSecret checks a secret that callers or the backend compare with.
func checkSecret(secret string) error {
	if hasControl(secret) || strings.Contains(secret, " ") {
		return errors.New("must not have spaces or control characters: no caller could send them")
	}
	return checkLength(secret)
}

// sharedSecret reads a secret that may be missing. A short one is noted in Access.Short.
func sharedSecret(name string, field func(c *Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if *field(c) = s; s == "" {
			return nil
		}
		c.Access.noteShort(name, s)
		return checkSecret(s)
	}
}

// jwtSecret reads the secret of JWTs. No header carries it, so it may have every character,
// as Django's SECRET_KEY may.
func jwtSecret(c *Config, s string) error {
	if c.Access.JWTSecret = s; s == "" {
		return nil
	}
	c.Access.noteShort("JWT_SECRET", s)
	return checkLength(s)
}

func checkLength(secret string) error {
	if len(secret) < shortSecret {
		return fmt.Errorf("must have %d characters or more (%s)", leastSecret, makeSecret)
	}
	return nil
}

// noteShort records a secret that later releases refuse.
func (a *AccessConfig) noteShort(name, secret string) {
	if len(secret) < leastSecret {
		a.Short = append(a.Short, name)
	}
}

func tokens(c *Config, s string) error {
	c.Access.Tokens = nil
	names, secrets := make(map[string]bool), make(map[string]bool)
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, secret, ok := strings.Cut(strings.TrimSpace(part), ":")
		switch {
		case !ok || name == "" || hasControl(name) || names[name]:
			return errors.New("must be name:token, comma separated, each name once")
		case secrets[secret]:
			return errors.New("has two names with one token: each name needs its own")
		}
		if err := checkSecret(secret); err != nil {
			return fmt.Errorf("has a token (of %s) that %w", printable(name), err)
		}
		c.Access.noteShort("API_TOKENS ("+name+")", secret)
		names[name], secrets[secret] = true, true
		c.Access.Tokens = append(c.Access.Tokens, auth.Token{Name: name, Secret: secret})
	}
	if s != "" && len(c.Access.Tokens) == 0 {
		return errors.New("has no token: give it name:token, or leave it out")
	}
	return nil
}

// proxies reads the networks of trusted proxies.
func proxies(c *Config, s string) error {
	c.Access.TrustedProxies = nil
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		network, err := netip.ParsePrefix(part)
		if addr, e := netip.ParseAddr(part); e == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return errors.New("must be addresses or networks such as 10.0.0.0/8, comma separated")
		}
		c.Access.TrustedProxies = append(c.Access.TrustedProxies, network.Masked())
	}
	return nil
}

func signingKeys(c *Config, s string) error {
	c.SigningKeys = nil
	if strings.TrimSpace(s) == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		key := strings.TrimSpace(part)
		switch {
		case len(key) < leastSecret || hasControl(key) || len(c.SigningKeys) == 2:
			return fmt.Errorf("must be one key or two, comma separated, each of at least %d characters (make one with: openssl rand -hex 32)", leastSecret)
		default:
			c.SigningKeys = append(c.SigningKeys, key)
		}
	}
	return nil
}

func hosts(c *Config, s string) error {
	c.Access.AllowedHosts = nil
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, ok := hostName(part)
		if !ok {
			return errors.New("must be names such as chat.example.com, comma separated, without scheme, path or wildcard")
		}
		c.Access.AllowedHosts = append(c.Access.AllowedHosts, name)
	}
	return nil
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// hostName returns the name or address in a host as a URL spells it. It drops the port,
// because any port may lead to the service.
func hostName(host string) (name string, ok bool) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", false
		}
		host = name
	}
	name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return name, true
	}
	return name, namePattern.MatchString(name)
}

// djangoSecret reads the secret that the backend compares with.
func djangoSecret(c *Config, s string) error {
	if c.DjangoSecret = s; s == "" {
		return nil
	}
	c.Access.noteShort("DJANGO_SHARED_SECRET", s)
	if err := checkLength(s); err != nil {
		return err
	}
	return headerText(func(c *Config) *string { return &c.DjangoSecret })(c, s)
}

// keySetURL reads the address of a key set. Without https, anyone on the way could replace
// the keys.
func keySetURL(c *Config, s string) error {
	if c.Access.JWTKeySetURL = s; s != "" && (!isAddress(s) || !strings.HasPrefix(s, "https://")) {
		return errors.New("must be an https address such as https://auth.example.com/.well-known/jwks.json")
	}
	return nil
}
