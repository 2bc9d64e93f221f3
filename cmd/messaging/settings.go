package main

import (
	"math"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/persist"
)

// Config holds the values of all settings. Its zero value is not usable: load fills in
// the defaults of the settings table.
type Config struct {
	Port, MaxConnections int
	MaxUnauthenticated   int
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

	Access AccessConfig

	RequestTimeout, ShutdownGrace, ShutdownDelay time.Duration
	MaxInflight                                  int64

	LogLevel, LogFormat string

	// The service that the command line calls.
	ServiceURL, ServiceToken, ServiceCA string
}

// setting is one row of the settings table. Its key is the name in a file. The
// environment variable is the key in capitals, the flag is the key with hyphens.
type setting struct {
	key      string
	fallback string
	secret   bool
	also     string        // another name in the environment
	client   bool          // for the commands that call a service; serve has no flag for it
	onOff    bool          // true or false; the flag needs no value and has a --no- form
	unit     time.Duration // of a bare number, if the setting is a duration
	help     string
	set      func(c *Config, text string) error
	// show returns the value for output and logs. It is nil if that is the value itself.
	show func(text string) string
}

// environment returns the names in the environment. The first one that is set wins. The
// prefixed name is before the short one, because another program may set the short one:
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

// flagHelp returns the help of the setting's flag.
func (s *setting) flagHelp() string {
	help := s.help
	if s.unit == time.Second {
		help += "; such as 500ms, 30s or 5m; a bare number is seconds"
	}
	if s.unit == day {
		help += "; such as 12h or 90d; a bare number is days"
	}
	if s.fallback != "" {
		help += " (default " + s.fallback + ")"
	}
	return help
}

// shown returns a value of the setting for output and logs.
func (s *setting) shown(text string) string {
	switch {
	case s.secret && text != "":
		return "(secret)"
	case s.show != nil:
		return s.show(text)
	}
	return text
}

// Keys that the program uses by name.
const (
	keyAddr    = "http_addr"
	keyPort    = "http_port"
	keyDataDir = "data_dir"
	keyTLSCert = "tls_cert"
	keyURL     = "messaging_url"
	keyToken   = "messaging_token"
)

// settings is the settings table, in display order.
var settings = slices.Concat(coreSettings, accessSettings, clientSettings)

var coreSettings = []setting{
	{
		key: keyPort, fallback: "8765", help: "port to listen on; 0 chooses a free port",
		set: integer(0, 65535, func(c *Config) *int { return &c.Port }),
	},
	{
		key: keyAddr, fallback: "127.0.0.1", help: "address to listen on",
		set: text(func(c *Config) *string { return &c.Addr }),
	},
	{
		key: "max_connections", fallback: "10000", help: "maximum number of open connections",
		set: integer(1, 1_000_000, func(c *Config) *int { return &c.MaxConnections }),
	},
	{
		key: "max_unauthenticated", fallback: "0", help: "maximum number of open connections without an accepted request, if tokens are set; above it the oldest are closed; 0 is a tenth of MAX_CONNECTIONS",
		set: integer(0, 1_000_000, func(c *Config) *int { return &c.MaxUnauthenticated }),
	},
	{
		key: "message_queue_max_size", fallback: "100000", help: "maximum number of messages in a user's queue; a full queue evicts its oldest message of the lowest priority",
		set: queueMax,
	},
	{
		key: "message_retention_days", fallback: "30", help: "days that the log keeps a message, fractions allowed; messages that wait for a backend are kept longer",
		unit: day, set: days(func(c *Config) *time.Duration { return &c.Retention }),
	},
	{
		key: "django_api_url", fallback: "http://backend:8000", help: "address of the backend, or off: nothing is drained, and messages wait for the next start with a backend",
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
		key: "django_auth_scheme", fallback: "Token", help: "authorization scheme of DJANGO_API_TOKEN",
		set: headerText(func(c *Config) *string { return &c.DjangoScheme }),
	},
	{
		key: "django_shared_secret", secret: true, also: "ERLANG_SHARED_SECRET", help: "secret that is sent as X-Erlang-Secret",
		set: djangoSecret,
	},
	{
		key: "signing_keys", secret: true, help: "keys that sign requests to the backend: one, or two during a key rotation, comma separated",
		set: signingKeys,
	},
	{
		key: "django_headers", secret: true, help: "additional headers for the backend: Name: value; Name: value",
		set: headers,
	},
	{
		key: "django_duplicate_pattern", fallback: persist.DefaultDuplicatePattern, help: "regular expression for error texts that mean that the message is stored",
		set: pattern(func(c *Config) **regexp.Regexp { return &c.DuplicatePattern }),
	},
	{
		key: "django_permanent_pattern", fallback: persist.DefaultPermanentPattern, help: "regular expression for error texts of permanent errors",
		set: pattern(func(c *Config) **regexp.Regexp { return &c.PermanentPattern }),
	},
	{
		key: "django_trust_2xx", fallback: "false", help: "treat every 2xx response as stored, whatever its body",
		onOff: true, set: boolean(func(c *Config) *bool { return &c.Trust2xx }),
	},
	{
		key: "persist_batch_size", fallback: "500", help: "maximum number of messages in a request to the backend",
		set: integer(1, 10_000, func(c *Config) *int { return &c.BatchSize }),
	},
	{
		key: "persist_max_batch_bytes", fallback: "1MiB", help: "bytes in a request to the backend",
		set: size(1<<10, 1<<30, func(c *Config) *int64 { return &c.BatchBytes }),
	},
	{
		key: "persist_linger", fallback: "200ms", help: "how long an incomplete batch waits for more messages",
		unit: time.Second, set: duration(0, time.Minute, func(c *Config) *time.Duration { return &c.Linger }),
	},
	{
		key: "persist_concurrency", fallback: "4", help: "maximum number of concurrent requests to the backend",
		set: integer(1, 256, func(c *Config) *int { return &c.Concurrency }),
	},
	{
		key: "persist_max_attempts", fallback: "5", help: "attempts for a refused message before it becomes a dead letter",
		set: integer(1, 1000, func(c *Config) *int { return &c.MaxAttempts }),
	},
	{
		key: "persist_max_backoff", fallback: "30s", help: "longest pause between attempts",
		unit: time.Second, set: duration(time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.MaxBackoff }),
	},
	{
		key: "persist_timeout", fallback: "10s", help: "how long the backend may take to respond",
		unit: time.Second, set: duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.PersistTimeout }),
	},
	{
		key: keyDataDir, fallback: "./data", help: "directory of all data; one process at a time uses it",
		set: text(func(c *Config) *string { return &c.DataDir }),
	},
	{
		key: "disk_min_free", fallback: "256MiB", help: "free space below which sends are refused",
		set: size(0, math.MaxInt64, func(c *Config) *int64 { return &c.DiskMinFree }),
	},
	{
		key: "cache_bytes", fallback: "auto", help: "memory for recently sent or read messages; auto is 1/32 of the available memory, from 32 MiB to 1 GiB",
		set: orAuto(size(1<<20, 1<<40, func(c *Config) *int64 { return &c.CacheBytes }), func(c *Config) { c.CacheBytes = cacheFor(memory()) }),
	},
	{
		key: "idempotency_window", fallback: "24h", help: "how long a repeated idempotency key returns the result of its first send",
		unit: time.Second, set: duration(time.Second, 30*24*time.Hour, func(c *Config) *time.Duration { return &c.IdempotencyWindow }),
	},
	{
		key: "queue_max_deliveries", fallback: "0", help: "deliveries under a lease after which an unacknowledged message becomes a dead letter; 5 is a good value, 0 disables this",
		set: integer(0, 1_000_000, func(c *Config) *int { return &c.MaxDeliveries }),
	},
	{
		key: "queue_max_leased", fallback: "20000", help: "maximum number of leased messages of one queue; a take under a lease beyond it is refused with 429",
		set: integer(1, 1_000_000, func(c *Config) *int { return &c.MaxLeased }),
	},
	{
		key: "queue_retry_backoff", fallback: "1s", help: "pause, from the third delivery on, before a message is delivered again after a nack or an expired lease; it doubles with each delivery, up to 5m; 0 disables it",
		unit: time.Second, set: duration(0, 5*time.Minute, func(c *Config) *time.Duration { return &c.RetryBackoff }),
	},
	{
		key: "queue_priority_weights", help: "weights of the priorities, such as high:8,normal:4,low:1; empty means strict priorities",
		set: weights,
	},
	{
		key: "dead_letter_retention_days", fallback: "0", help: "days that dead letters are kept, fractions allowed; 0 means no limit",
		unit: day, set: daysOrNever(func(c *Config) *time.Duration { return &c.DeadLetterRetention }),
	},
	{
		key: "request_timeout", fallback: "30s", help: "how long receiving a request and sending a response may take",
		unit: time.Second, set: duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.RequestTimeout }),
	},
	{
		key: "shutdown_delay", fallback: "0s", help: "time between failing readiness and closing the listener",
		unit: time.Second, set: duration(0, time.Hour, func(c *Config) *time.Duration { return &c.ShutdownDelay }),
	},
	{
		key: "shutdown_grace", fallback: "20s", help: "how long requests and the drain may take to finish",
		unit: time.Second, set: duration(0, time.Hour, func(c *Config) *time.Duration { return &c.ShutdownGrace }),
	},
	{
		key: "max_inflight_bytes", fallback: "64MiB", help: "memory for bodies of requests and responses in progress",
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
}

// clientSettings are for the commands that call a service.
var clientSettings = []setting{
	{
		key: keyURL, fallback: "http://127.0.0.1:8765", client: true, help: "address of the service for the command line; by default this machine, at HTTP_PORT",
		set: serviceURL, show: redacted,
	},
	{
		key: keyToken, secret: true, client: true, help: "token of the command line",
		set: secretText(func(c *Config) *string { return &c.ServiceToken }),
	},
	{
		key: "messaging_ca", client: true, help: "file with the certificates (PEM) that the command line trusts instead of the system's, for an https address",
		set: text(func(c *Config) *string { return &c.ServiceCA }),
	},
}

// loopback reports whether the listener can be reached only from this machine.
func (c *Config) loopback() bool {
	if c.Addr == "localhost" {
		return true
	}
	ip := net.ParseIP(c.Addr)
	return ip != nil && ip.IsLoopback()
}

// check checks settings that depend on each other.
func (c *Config) check() error {
	if !c.Access.isClosed() && !c.loopback() && !c.Access.AllowAnonymous {
		return usagef("HTTP_ADDR=%s without API_TOKENS would let anyone read and send: set API_TOKENS=name:token (or TOKENS_FILE, or JWT_SECRET), or ALLOW_ANONYMOUS=true if that is intended", c.Addr)
	}
	if c.DataDir == "" {
		return usagef("DATA_DIR must not be empty: name a directory")
	}
	if c.Access.DjangoCA+c.Access.DjangoClientCert != "" && !strings.HasPrefix(c.DjangoURL, "https://") {
		return usagef("DJANGO_CA and DJANGO_CLIENT_CERT are for a DJANGO_API_URL that begins with https://")
	}
	return c.Access.check()
}
