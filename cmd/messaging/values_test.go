package main

import (
	"slices"
	"testing"
)

func TestHostsAreNamesWithOrWithoutAPort(t *testing.T) {
	var c Config
	if err := hosts(&c, "chat.example, Chat.Example:8765,10.0.0.1:80, [::1]:8765, [::1], ::1, my_service"); err != nil {
		t.Fatal(err)
	}
	want := []string{"chat.example", "Chat.Example", "10.0.0.1", "::1", "::1", "::1", "my_service"}
	if !slices.Equal(c.Access.AllowedHosts, want) {
		t.Errorf("%q, want %q", c.Access.AllowedHosts, want)
	}
}

func TestValuesThatHeadersTakeAreTaken(t *testing.T) {
	var c Config
	for _, read := range []func() error{
		func() error { return headerText(func(c *Config) *string { return &c.DjangoToken })(&c, "tök en=/+") },
		func() error { return djangoPath(&c, "/api/v1/messaging/erlang/persist/") },
		func() error { return djangoPath(&c, "/with%20escapes/?format=json") },
		func() error { return headers(&c, "X-Tenant: a b\tc; Accept: */*") },
		func() error { return tokens(&c, "web:a-b_c~1+/=01234567, mobile:xyz0123456789012") },
	} {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
}

func TestSigningKeysAreOneOrTwoAndLong(t *testing.T) {
	const first, second = "0123456789abcdef", "fedcba9876543210"
	for text, want := range map[string][]string{
		"": nil, first: {first}, first + ", " + second: {first, second},
	} {
		var c Config
		if err := signingKeys(&c, text); err != nil || !slices.Equal(c.SigningKeys, want) {
			t.Errorf("%q is read as %q (%v), want %q", text, c.SigningKeys, err, want)
		}
	}
	for _, text := range []string{",", first + ",", "short", first + "," + second + "," + first, "0123456789abcd\x00ef"} {
		if err := signingKeys(new(Config), text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
