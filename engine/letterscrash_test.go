package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// leftovers are the states of the disk after power cuts before each operation, each with
// the number of steps that had returned by then.
type leftovers struct {
	mu      sync.Mutex // the database works in the background
	disk    *vfs.MemFS
	control *storage.MemoryControl
	random  *rand.Rand
	done    int
	list    []leftover
}

type leftover struct {
	disk    *vfs.MemFS
	control *storage.MemoryControl
	done    int
}

func (c *leftovers) before(errorfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, percent := range []int{0, 50, 100} {
		clone := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.random})
		c.list = append(c.list, leftover{clone, c.control.CrashClone(false), c.done})
	}
	return nil
}

func (c *leftovers) stepDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
}

func openLeftover(tb testing.TB, fs vfs.FS, control *storage.MemoryControl) *rig {
	tb.Helper()
	r := &rig{tb: tb, control: control}
	var err error
	if r.store, err = storage.Open(storage.Config{Dir: "/data", FS: fs, Control: control.Open, MemTableBytes: 1 << 20, CacheBytes: 1 << 20}); err != nil {
		tb.Fatal(err)
	}
	if r.log, err = wal.Open(wal.Config{Store: r.store}); err != nil {
		tb.Fatal(err)
	}
	if r.engine, err = engine.Open(engine.Config{Store: r.store, Log: r.log}); err != nil {
		tb.Fatal(err)
	}
	return r
}

// state returns everything that a change of dead letters may change.
func (l *lettered) state() string {
	l.tb.Helper()
	position, err := l.store().Position()
	jobs, jobsErr := l.store().Jobs()
	queue, queueErr := l.engine.Peek("u", 10)
	if err = errors.Join(err, jobsErr, queueErr); err != nil {
		l.tb.Fatal(err)
	}
	return fmt.Sprintf("%s; position %v; jobs %q; %d queued; counts %d %d", l.summary(), position, jobs, len(queue),
		l.store().Count(messaging.Refused), l.store().Count(messaging.Undeliverable))
}

// letterSteps returns changes of all kinds. Each is one commit.
func letterSteps(l *lettered, undeliverable messaging.DeadLetter) []func() error {
	store := l.store()
	refused := func() []messaging.DeadRecipient {
		var all []messaging.DeadRecipient
		letters := l.listed(messaging.Refused, "", 10)
		for i := range letters {
			all = append(all, l.recipients(&letters[i])...)
		}
		return all
	}
	progress := func(seq uint64, record string) messaging.Progress {
		return messaging.Progress{Position: &messaging.Position{Sequence: seq}, Job: "j", Record: []byte(record)}
	}
	return []func() error{
		func() error {
			return store.AddDeadLetters(append(copies("r", 0, 1, 2, 3), undeliverable), messaging.Progress{Position: &messaging.Position{Sequence: 1}})
		},
		func() error { return store.AddDeadLetters(copies("moved", 3), progress(2, "begun")) },
		func() error {
			has, err := store.ClaimDeadLetters("j", refused())
			if len(has) != 4 {
				l.tb.Errorf("%d claims", len(has))
			}
			return err
		},
		func() error {
			all := refused()
			return store.FinishRedrive("j", all[:1], refusals("again", 200, all[1]), all[2:], progress(2, "finished"))
		},
		func() error {
			letters := l.listed(messaging.Undeliverable, "", 10)
			results, err := store.RequeueDeadLetters(l.recipients(&letters[0]), progress(2, "requeued"))
			if err == nil && results[0] != (messaging.RequeueResult{}) {
				l.tb.Errorf("it is not requeued: %+v", results)
			}
			return err
		},
		func() error {
			_, err := store.DropDeadLetter(l.listed(messaging.Refused, "again", 10)[0].ID)
			return err
		},
		func() error { return store.ForgetJob("j") },
	}
}

// The power is cut before each operation of the disk. Then either a whole change is there
// with its progress, or nothing of it.
func TestAChangeOfDeadLettersIsWholeAfterACrash(t *testing.T) {
	cuts := &leftovers{disk: vfs.NewCrashableMem(), control: storage.NewMemoryControl(), random: rand.New(rand.NewPCG(1, 1))}
	var watching bool
	fs := errorfs.Wrap(cuts.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !watching {
			return nil
		}
		return cuts.before(op)
	}))
	l := &lettered{openLeftover(t, fs, cuts.control)}
	l.send("u", "x", messaging.Normal)
	l.takeAway("u")
	page, _, err := l.log.Read(messaging.Position{Sequence: 1}, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	undeliverable := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "nobody", Attempts: 3, FailedAt: page[0].CreatedAt, Message: page[0]}
	states := []string{l.state()}
	watching = true
	for _, step := range letterSteps(l, undeliverable) {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		cuts.stepDone()
		states = append(states, l.state())
	}
	l.close()
	seen := make(map[string]int)
	for _, left := range cuts.list {
		r := &lettered{openLeftover(t, left.disk, left.control)}
		got := r.state()
		seen[got]++
		if got != states[left.done] && (left.done+1 == len(states) || got != states[left.done+1]) {
			t.Fatalf("after %d completed steps a crash leaves\n%s, and the states were\n%v", left.done, got, states)
		}
		r.close()
	}
	if len(seen) < len(states)-1 || len(cuts.list) < 3*len(states) {
		t.Errorf("%d cuts found %d of %d states", len(cuts.list), len(seen), len(states))
	}
}
