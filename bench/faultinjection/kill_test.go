package faultinjection_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/torture"
)

// killsPerRound is how often the service is killed in one round. It keeps its
// directory, so recoveries follow recoveries.
const killsPerRound = 5

// TestRigKill sends SIGKILL to the real program at full load while Django is flaky:
// during work, during recovery and during shutdown. An ordinary run has 20 kills; 200
// rounds have a thousand.
func TestRigKill(t *testing.T) {
	s := new(slowest)
	defer func() { t.Log(s) }()
	torture.Run(t, 20/killsPerRound, func(r *torture.Round) { killRound(r, "", s) })
}

// TestRigKillCatchesAnEarlyResponse kills a service that responds before it has written
// anything.
func TestRigKillCatchesAnEarlyResponse(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) { killRound(r, "early", new(slowest)) })
}

func killRound(r *torture.Round, fault string, s *slowest) {
	w := newHarness(r, filepath.Join(r.TempDir(), "data"), fault, s)
	w.startReady()
	w.beginLoad(32)
	// Three of five kills come during work, and one each in recovery and in shutdown,
	// in random order.
	for _, n := range r.Rand.Perm(killsPerRound) {
		w.sleep(50, 600)
		switch n {
		case 0:
			w.killInRecovery()
		case 1:
			w.killInShutdown()
		case 2:
			w.service.Kill()
			w.verify("killed")
		default:
			w.service.Kill()
		}
		r.Count("kills", 1)
		w.startReady()
	}
	w.sleep(50, 300)
	w.report(w.finish())
}

// killInRecovery kills the service, and then its successor between its first
// instruction and its first work.
func (w *harness) killInRecovery() {
	w.service.Kill()
	w.start()
	w.sleep(0, 150)
	w.service.Kill()
}

func (w *harness) killInShutdown() {
	_ = syscall.Kill(w.service.PID, syscall.SIGTERM) // the process exists: nothing else ends it
	w.sleep(0, 100)
	w.service.Kill()
}

// sleep sleeps for a random time in milliseconds.
func (w *harness) sleep(least, most int) {
	time.Sleep(time.Duration(least)*time.Millisecond + time.Duration(w.Rand.Int64N(int64(most-least)*int64(time.Millisecond))))
}
