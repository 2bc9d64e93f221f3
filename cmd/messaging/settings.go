package main

import (
	"math"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/persist"
)

// Config is everything that can be set. Its zero value is not usable: load
// fills in the defaults of the settings table.
type Config struct {
	Port, MaxConnections int
	Addr                 string

	QueueMax            uint64
	Retention           time.Duration
	IdempotencyWindow   time.Duration
	MaxDeliveries       int
	MaxLeased           int
	RetryBackoff        time.Duration
	Weights             *engine.Weights
	DeadLetterRetention time.Duration

	DjangoURL        string // empty when off
	DjangoPath       string
	DjangoToken      string
	DjangoScheme     string
	DjangoSecret     string
	SigningKeys      []string
	DjangoHeaders    http.Header
	DuplicatePattern *regexp.Regexp
	PermanentPattern *regexp.Regexp
	Trust2xx         bool

	BatchSize, Concurrency, MaxAttempts int
	BatchBytes                          int64
	Linger, MaxBackoff, PersistTimeout  time.Duration

	DataDir     string
	DiskMinFree int64
	CacheBytes  int64

	Tokens         []auth.Token
	MetricsToken   string
	AllowAnonymous bool
	AllowedHosts   []string

	RequestTimeout, ShutdownGrace, ShutdownDelay time.Duration
	MaxInflight                                  int64

	LogLevel, LogFormat string

	// What the command line calls.
	ServiceURL, ServiceToken string
}

// setting is one row of the configuration table. Its key is the name in a
// file; the environment spells it in capitals, a flag with hyphens.
type setting struct {
	key      string
	fallback string
	secret   bool
	also     string        // another name in the environment
	client   bool          // for the commands that call a service: serve has no flag for it
	onOff    bool          // true or false: its flag needs no value, and has a --no- form
	unit     time.Duration // of a bare number, where the setting is a duration
	help     string
	set      func(c *Config, text string) error
	// show gives the value for eyes and logs, where that is not the value itself.
	show func(text string) string
}

// environment lists the names in the environment, the first that is set wins.
// The longer name goes before the short one, which may be somebody else's:
// Kubernetes sets HTTP_PORT in every container beside a service named http.
func (s *setting) environment() []string {
	names := []string{s.env()}
	if s.also != "" {
		names = append(names, s.also)
	}
	var all []string
	for _, name := range names {
		if !strings.HasPrefix(name, envPrefix) {
			all = append(all, envPrefix+name)
		}
		all = append(all, name)
	}
	return all
}

const envPrefix = "MESSAGING_"

func (s *setting) env() string { return strings.ToUpper(s.key) }
func (s *setting) flag() string {
	return strings.TrimPrefix(strings.ReplaceAll(s.key, "_", "-"), "messaging-")
}

// flagHelp is the help of the setting's flag.
func (s *setting) flagHelp() string {
	help := s.help
	if s.unit == time.Second {
		help += "; such as 500ms, 30s or 5m, and a bare number is seconds"
	}
	if s.unit == day {
		help += "; 12h or 90d too, and a bare number is days"
	}
	if s.fallback != "" {
		help += " (default " + s.fallback + ")"
	}
	return help
}

// shown gives a value of the setting for eyes and logs.
func (s *setting) shown(text string) string {
	switch {
	case s.secret && text != "":
		return "(secret)"
	case s.show != nil:
		return s.show(text)
	}
	return text
}

// Keys that are read one by one.
const (
	keyAddr    = "http_addr"
	keyPort    = "http_port"
	keyDataDir = "data_dir"
	keyURL     = "messaging_url"
	keyToken   = "messaging_token"
)

// settings is the configuration table, in the order in which it is shown.
var settings = []setting{
	{
		key: keyPort, fallback: "8765", help: "port to listen on; 0 takes a free one",
		set: integer(0, 65535, func(c *Config) *int { return &c.Port }),
	},
	{
		key: keyAddr, fallback: "127.0.0.1", help: "address to listen on",
		set: text(func(c *Config) *string { return &c.Addr }),
	},
	{
		key: "max_connections", fallback: "10000", help: "connections at once",
		set: integer(1, 1_000_000, func(c *Config) *int { return &c.MaxConnections }),
	},
	{
		key: "message_queue_max_size", fallback: "100000", help: "messages in a user's queue; past it the oldest of the lowest priority leaves",
		set: queueMax,
	},
	{
		key: "message_retention_days", fallback: "30", help: "days that the log keeps a message, fractions allowed; never trims what Django has not got",
		unit: day, set: days(func(c *Config) *time.Duration { return &c.Retention }),
	},
	{
		key: "django_api_url", fallback: "http://backend:8000", help: "the backend, or off: nothing drains, and messages wait for the next start with a backend",
		set: djangoURL, show: redacted,
	},
	{
		key: "django_persist_path", fallback: "/api/messaging/erlang/persist/", help: "path of the backend's endpoint",
		set: djangoPath,
	},
	{
		key: "django_api_token", secret: true, help: "token for the backend",
		set: headerText(func(c *Config) *string { return &c.DjangoToken }),
	},
	{
		key: "django_auth_scheme", fallback: "Token", help: "scheme in front of that token",
		set: headerText(func(c *Config) *string { return &c.DjangoScheme }),
	},
	{
		key: "django_shared_secret", secret: true, also: "ERLANG_SHARED_SECRET", help: "sent as X-Erlang-Secret",
		set: headerText(func(c *Config) *string { return &c.DjangoSecret }),
	},
	{
		key: "signing_keys", secret: true, help: "one key, or two while they are exchanged, comma separated, that requests to the backend are signed with",
		set: signingKeys,
	},
	{
		key: "django_headers", secret: true, help: "more headers for the backend: Name: value; Name: value",
		set: headers,
	},
	{
		key: "django_duplicate_pattern", fallback: persist.DefaultDuplicatePattern, help: "regular expression of error texts that mean stored",
		set: pattern(func(c *Config) **regexp.Regexp { return &c.DuplicatePattern }),
	},
	{
		key: "django_permanent_pattern", fallback: persist.DefaultPermanentPattern, help: "regular expression of error texts that will not go away",
		set: pattern(func(c *Config) **regexp.Regexp { return &c.PermanentPattern }),
	},
	{
		key: "django_trust_2xx", fallback: "false", help: "take any 2xx for stored, whatever its body",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.Trust2xx }),
	},
	{
		key: "persist_batch_size", fallback: "500", help: "messages in a request to the backend",
		set: integer(1, 10_000, func(c *Config) *int { return &c.BatchSize }),
	},
	{
		key: "persist_max_batch_bytes", fallback: "1MiB", help: "bytes in a request to the backend",
		set: size(1<<10, 1<<30, func(c *Config) *int64 { return &c.BatchBytes }),
	},
	{
		key: "persist_linger", fallback: "200ms", help: "how long an incomplete batch waits for more",
		unit: time.Second, set: duration(0, time.Minute, func(c *Config) *time.Duration { return &c.Linger }),
	},
	{
		key: "persist_concurrency", fallback: "4", help: "requests to the backend at once",
		set: integer(1, 256, func(c *Config) *int { return &c.Concurrency }),
	},
	{
		key: "persist_max_attempts", fallback: "5", help: "tries of a refused message before it is a dead letter",
		set: integer(1, 1000, func(c *Config) *int { return &c.MaxAttempts }),
	},
	{
		key: "persist_max_backoff", fallback: "30s", help: "longest pause between tries",
		unit: time.Second, set: duration(time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.MaxBackoff }),
	},
	{
		key: "persist_timeout", fallback: "10s", help: "how long the backend may take to answer",
		unit: time.Second, set: duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.PersistTimeout }),
	},
	{
		key: keyDataDir, fallback: "./data", help: "where everything is kept; one process at a time",
		set: text(func(c *Config) *string { return &c.DataDir }),
	},
	{
		key: "disk_min_free", fallback: "256MiB", help: "free space below which sends are refused",
		set: size(0, math.MaxInt64, func(c *Config) *int64 { return &c.DiskMinFree }),
	},
	{
		key: "cache_bytes", fallback: "auto", help: "memory for messages that were sent or read last; auto: a 32nd of what there is, 32 MiB to 1 GiB",
		set: orAuto(size(1<<20, 1<<40, func(c *Config) *int64 { return &c.CacheBytes }), func(c *Config) { c.CacheBytes = cacheFor(memory()) }),
	},
	{
		key: "api_tokens", secret: true, help: "who may call: name:token, comma separated",
		set: tokens,
	},
	{
		key: "metrics_token", secret: true, help: "opens /metrics alone",
		set: secretText(func(c *Config) *string { return &c.MetricsToken }),
	},
	{
		key: "allow_anonymous", fallback: "false", help: "listen beyond loopback without tokens",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.AllowAnonymous }),
	},
	{
		key: "allowed_hosts", help: "names under which the service may be called, comma separated",
		set: hosts,
	},
	{
		key: "idempotency_window", fallback: "24h", help: "how long an idempotency key stands for what was first sent with it",
		unit: time.Second, set: duration(time.Second, 30*24*time.Hour, func(c *Config) *time.Duration { return &c.IdempotencyWindow }),
	},
	{
		key: "queue_max_deliveries", fallback: "0", help: "deliveries under a lease after which a message that nobody acknowledges is a dead letter; 5 is a good value, 0 is never",
		set: integer(0, 1_000_000, func(c *Config) *int { return &c.MaxDeliveries }),
	},
	{
		key: "queue_max_leased", fallback: "20000", help: "messages of one queue that may be under a lease; past it a take under a lease is answered with 429",
		set: integer(1, 1_000_000, func(c *Config) *int { return &c.MaxLeased }),
	},
	{
		key: "queue_retry_backoff", fallback: "1s", help: "pause after the third delivery before a message that was given back, or whose lease ended, comes back; it doubles with each delivery, up to 5m; 0 is no pause",
		unit: time.Second, set: duration(0, 5*time.Minute, func(c *Config) *time.Duration { return &c.RetryBackoff }),
	},
	{
		key: "queue_priority_weights", help: "serve priorities by weight, such as high:8,normal:4,low:1; empty serves them strictly",
		set: weights,
	},
	{
		key: "dead_letter_retention_days", fallback: "0", help: "days that dead letters are kept, fractions allowed; 0 is for ever",
		unit: day, set: daysOrNever(func(c *Config) *time.Duration { return &c.DeadLetterRetention }),
	},
	{
		key: "request_timeout", fallback: "30s", help: "how long a request may take to arrive, and an answer to leave",
		unit: time.Second, set: duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.RequestTimeout }),
	},
	{
		key: "shutdown_delay", fallback: "0s", help: "between readiness turning red and the listener closing",
		unit: time.Second, set: duration(0, time.Hour, func(c *Config) *time.Duration { return &c.ShutdownDelay }),
	},
	{
		key: "shutdown_grace", fallback: "20s", help: "how long requests and the drain may take to end",
		unit: time.Second, set: duration(0, time.Hour, func(c *Config) *time.Duration { return &c.ShutdownGrace }),
	},
	{
		key: "max_inflight_bytes", fallback: "64MiB", help: "bodies being worked on at once",
		set: size(1<<10, math.MaxInt64, func(c *Config) *int64 { return &c.MaxInflight }),
	},
	{
		key: "log_level", fallback: "info", help: "debug, info, warn or error",
		set: oneOf(func(c *Config) *string { return &c.LogLevel }, "debug", "info", "warn", "error"),
	},
	{
		key: "log_format", help: "text or json; by default text on a terminal, else json",
		set: oneOf(func(c *Config) *string { return &c.LogFormat }, "", "text", "json"),
	},
	{
		key: keyURL, fallback: "http://127.0.0.1:8765", client: true, help: "where the command line finds the service; by default on this machine, at HTTP_PORT",
		set: serviceURL, show: redacted,
	},
	{
		key: keyToken, secret: true, client: true, help: "the command line's token",
		set: secretText(func(c *Config) *string { return &c.ServiceToken }),
	},
}

// loopback says whether the listener can be reached from this machine alone.
func (c *Config) loopback() bool {
	if c.Addr == "localhost" {
		return true
	}
	ip := net.ParseIP(c.Addr)
	return ip != nil && ip.IsLoopback()
}

// check looks at what several settings say together.
func (c *Config) check() error {
	if len(c.Tokens) == 0 && !c.loopback() && !c.AllowAnonymous {
		return usagef("HTTP_ADDR=%s without API_TOKENS would let anyone read and send: set API_TOKENS=name:token, or ALLOW_ANONYMOUS=true if that is meant", c.Addr)
	}
	if c.DataDir == "" {
		return usagef("DATA_DIR must not be empty: name a directory")
	}
	return nil
}
