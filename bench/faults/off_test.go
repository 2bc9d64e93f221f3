package faults_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// sendFive sends five messages that the backend has not stored, and stops the service.
func (s *service) sendFive() {
	s.t.Helper()
	for _, text := range []string{"1", "2", "3", "4", "5"} {
		s.send("7", text, nil)
	}
	equal(s.t, "messages that wait for a refusing backend", s.lag(), 5)
	s.stop()
}

// TestStartWithTheDrainOffKeepsTheBacklog: with DJANGO_API_URL=off nothing is drained
// and the position does not move. In earlier revisions one such start silently dropped
// the backlog.
func TestStartWithTheDrainOffKeepsTheBacklog(t *testing.T) {
	fault(t, "7")
	backend := startDjango(t, down)
	s := startService(t, backend.env())
	s.sendFive()

	before := len(s.log.all())
	s.start("DJANGO_API_URL=off")
	equal(t, "messages that wait for the backend while the drain is off", s.lag(), 5)
	equal(t, "the drain in /api/stats", s.stats().Drain, "off")
	equal(t, "messaging_drain_off in /metrics", s.metric("messaging_drain_off"), 1)
	equal(t, "messaging_drain_lag_messages in /metrics", s.metric("messaging_drain_lag_messages"), 5)
	if _, out := s.command("stats"); !lineHas(strings.Split(out, "\n"), "drain", "off", "5") {
		t.Errorf("`messaging stats` does not report that the drain is off and that 5 messages wait:\n%s", out)
	}
	if !s.logs(before, "drain is off", "5 messages") {
		t.Errorf("the start does not log in one line that the drain is off and that 5 messages wait:\n%s", strings.Join(s.log.all()[before:], "\n"))
	}
	s.send("7", "6", nil) // sent while the drain is off: it waits too
	s.stop()

	before = len(s.log.all())
	backend.setScript(stores)
	s.start()
	if !s.logs(before, "6 messages") {
		t.Errorf("the start with a backend does not log that 6 messages wait:\n%s", strings.Join(s.log.all()[before:], "\n"))
	}
	s.send("7", "7", nil)
	s.drained(backend, "1", "2", "3", "4", "5", "6", "7")
	s.stop()
	s.verify()
}

// logs reports whether one line after the first before lines has all of the words. It
// waits some seconds, because a ready service may still be writing the line.
func (s *service) logs(before int, words ...string) bool {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if has := lineHas(s.log.all()[before:], words...); has || time.Now().After(deadline) {
			return has
		}
	}
}

// drained waits until the backend has exactly these texts.
func (s *service) drained(backend *django, texts ...string) {
	s.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); s.lag() > 0 || len(backend.stored()) < len(texts); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			break
		}
	}
	if got := backend.stored(); !slices.Equal(got, texts) {
		s.t.Errorf("Django got %q, want %q", got, texts)
	}
}

// lineHas reports whether one line has all of the words.
func lineHas(lines []string, words ...string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(strings.ToLower(line), word) })
	})
}

// TestBacklogIsSkippedOnlyOnRequest: `messaging drain skip` drops the backlog only
// after it has printed its size.
func TestBacklogIsSkippedOnlyOnRequest(t *testing.T) {
	fault(t, "7")
	backend := startDjango(t, down)
	s := startService(t, backend.env())
	s.sendFive()
	status, out := s.command("drain", "skip", "--to", "now", "--data-dir", s.config.Dir)
	if status != 0 || !strings.Contains(out, "5") {
		t.Errorf("`messaging drain skip` without --yes does not print how many messages it would drop (status %d):\n%s", status, out)
	}
	status, out = s.command("drain", "skip", "--to", "4", "--yes", "--data-dir", s.config.Dir)
	if status != 0 {
		t.Errorf("`messaging drain skip` cannot drop a backlog (status %d):\n%s", status, out)
	}
	backend.setScript(stores)
	s.start()
	s.drained(backend, "4", "5")
}
