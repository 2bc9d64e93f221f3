package rigs_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/torture"
)

// killsPerRound is how often the service of one round is killed; it keeps its
// directory, so that recoveries follow recoveries.
const killsPerRound = 5

// TestRigKill kills the real program with signal 9 at full load while Django is
// flaky: in the middle of work, while it recovers, and while it stops. 20 kills
// in an ordinary run; a thousand are 200 rounds.
func TestRigKill(t *testing.T) {
	s := new(slowest)
	defer func() { t.Log(s) }()
	torture.Run(t, 20/killsPerRound, func(r *torture.Round) { killRound(r, "", s) })
}

// TestRigKillCatchesAnEarlyAnswer kills a service that answers before it has
// written anything.
func TestRigKillCatchesAnEarlyAnswer(t *testing.T) {
	torture.Control(t, 3, func(r *torture.Round) { killRound(r, "early", new(slowest)) })
}

func killRound(r *torture.Round, fault string, s *slowest) {
	w := newWorld(r, filepath.Join(r.TempDir(), "data"), fault, s)
	w.startReady()
	w.beginLoad(32)
	// Three of five kills in the middle of work, one of each of the others, in
	// any order.
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

// killInRecovery kills the service, and its successor somewhere between its
// first instruction and its first work.
func (w *world) killInRecovery() {
	w.service.Kill()
	w.start()
	w.sleep(0, 150)
	w.service.Kill()
}

func (w *world) killInShutdown() {
	_ = syscall.Kill(w.service.PID, syscall.SIGTERM) // it is there: nobody else ends it
	w.sleep(0, 100)
	w.service.Kill()
}

// sleep sleeps for a time by chance, in milliseconds.
func (w *world) sleep(least, most int) {
	time.Sleep(time.Duration(least)*time.Millisecond + time.Duration(w.Rand.Int64N(int64(most-least)*int64(time.Millisecond))))
}
