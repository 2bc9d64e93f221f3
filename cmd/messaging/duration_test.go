package main

import (
	"testing"
	"time"
)

func TestDurationsHaveOneForm(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Second, "30s": 30 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "2d": 48 * time.Hour,
		"1.5": 1500 * time.Millisecond, "0.5d": 12 * time.Hour, "0": 0, "-5s": -5 * time.Second, "-5": -5 * time.Second,
	} {
		if got, ok := parseDuration(text, time.Second); !ok || got != want {
			t.Errorf("%q is %s (%t), want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "x", "5x", "d", "1e3", "0x10", "inf", "NaN", "5 s", "1d2h", "1e400", "99999999999d", ".5"} {
		if got, ok := parseDuration(text, time.Second); ok {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func TestDurationsAreWrittenWithoutZeros(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "30s": 30 * time.Second, "1m": time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute, "1d": day, "30d": 30 * day, "10m": 10 * time.Minute, "1m10s": 70 * time.Second,
	} {
		if got := durationText(d); got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
	}
}

// A bare number has the unit of its setting. The help of the flag names the unit.
func TestSettingsTakeEachFormOfADuration(t *testing.T) {
	for key, want := range map[string]time.Duration{
		"persist_linger": time.Second, "persist_max_backoff": time.Second, "persist_timeout": time.Second, "idempotency_window": time.Second, "queue_retry_backoff": time.Second,
		"request_timeout": time.Second, "shutdown_delay": time.Second, "shutdown_grace": time.Second, "message_retention_days": day, "dead_letter_retention_days": day,
	} {
		s := settingOf(t, key)
		for _, text := range []string{"30", "30s", "1m"} {
			if err := s.set(new(Config), text); err != nil {
				t.Errorf("%s: %q: %v", key, text, err)
			}
		}
		if s.unit != want {
			t.Errorf("the unit of %s is %s, want %s", key, s.unit, want)
		}
	}
	for i := range settings {
		s := &settings[i]
		takes := s.set(new(Config), "30s") == nil && s.set(new(Config), "30x") != nil
		if takes != (s.unit != 0) {
			t.Errorf("%s takes a duration: %t; its unit is %s", s.key, takes, s.unit)
		}
	}
	var c Config
	if err := settingOf(t, "persist_linger").set(&c, "5"); err != nil || c.Linger != 5*time.Second {
		t.Errorf("PERSIST_LINGER=5 is %s (%v)", c.Linger, err)
	}
	if err := settingOf(t, "message_retention_days").set(&c, "0.5"); err != nil || c.Retention != 12*time.Hour {
		t.Errorf("MESSAGE_RETENTION_DAYS=0.5 is %s (%v)", c.Retention, err)
	}
	if err := settingOf(t, "message_retention_days").set(&c, "12h"); err != nil || c.Retention != 12*time.Hour {
		t.Errorf("MESSAGE_RETENTION_DAYS=12h is %s (%v)", c.Retention, err)
	}
}

func settingOf(t *testing.T, key string) *setting {
	t.Helper()
	for i := range settings {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	t.Fatalf("no setting %s", key)
	return nil
}
