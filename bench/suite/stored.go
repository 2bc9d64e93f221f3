package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// goalSize is the number of stored messages for which goals are set. In a small store
// the log dominates, because its size does not depend on the number of messages.
const goalSize = 10_000_000

// userOf returns the user of the i-th stored message: ten messages per user, in ten
// passes over the users.
func userOf(i, users int) int { return leased + i%users }

// growingStore is a store that grows in steps, with counters of what was written to it.
type growingStore struct {
	*service
	messages int
	users    int
	bodies   atomic.Int64 // bytes of all bodies
	written  float64      // bytes that earlier processes wrote
}

// stored lets a store grow. At each size the service is killed and started again. At
// the last size its disk usage is measured, and it is compared with a small store.
func stored(s *suite) error {
	largest := s.scale.stored[len(s.scale.stored)-1]
	v, err := s.start("stored")
	if err != nil {
		return err
	}
	g := &growingStore{service: v, users: largest / 10}
	for _, size := range s.scale.stored {
		if err == nil {
			err = s.growTo(g, size)
		}
	}
	if err == nil {
		err = s.measureDisk(g)
	}
	if err == nil {
		err = s.compareWithSmall(g)
	}
	if g.Program != nil {
		err = errors.Join(err, g.stop())
	}
	return errors.Join(err, os.RemoveAll(g.config.Dir))
}

// growTo fills the store up to a size and measures starts after kill -9.
func (s *suite) growTo(g *growingStore, size int) error {
	s.logf("  filling up to %s", plural(size, "message"))
	if err := g.fillTo(size); err != nil {
		return err
	}
	r := measure.Result{Workload: "stored", Case: "ready after kill -9, " + plural(size, "message"), Size: float64(size), SizeName: "messages stored", Unit: "s"}
	if size >= goalSize {
		r.Goals = []measure.Goal{{Most: 5}}
	}
	memory := measure.Side{Name: ours, Detail: "idle, just started"}
	err := s.inTurnFor(r, min(3, s.rounds), measure.Measured{
		Name: ours, Detail: "20,000 sent in batches, then kill -9; until /health/ready answers 200",
		Round: func() (measure.Sample, error) {
			took, err := g.crash()
			if err != nil {
				return measure.Sample{}, err
			}
			time.Sleep(g.quiesce)
			mib, err := resident(g.PID)
			memory.Samples = append(memory.Samples, measure.Sample{Value: mib})
			return measure.Sample{Value: took.Seconds()}, err
		},
	})
	r.Case, r.Unit, r.Goals, r.Sides = "resident after a start, "+plural(size, "message"), "MiB", nil, []measure.Side{memory}
	s.keep(r)
	return err
}

// fillTo sends until the store has that many messages.
func (g *growingStore) fillTo(size int) error {
	err := g.fillMore(size - g.messages)
	return errors.Join(err, g.waitForCompactions())
}

func (g *growingStore) fillMore(n int) error {
	first := g.messages
	err := g.client.fill(n, func(b []byte, i int) []byte {
		before := len(b)
		b = traffic.NewProse(uint64(first+i)).AppendMessage(b, userOf(first+i, g.users)) //nolint:gosec // not negative
		g.bodies.Add(int64(len(b) - before))
		return b
	})
	g.messages += n
	return err
}

// waitForCompactions waits until the store stops compacting: its pending compactions
// have not changed for a while.
func (g *growingStore) waitForCompactions() error {
	const still = 3
	last, same := -1.0, 0
	for range 300 {
		debt, err := g.client.metric("messaging_store_compaction_debt_bytes")
		if err != nil {
			return err
		}
		if same++; debt != last {
			last, same = debt, 0
		}
		if debt == 0 || same >= still {
			return nil
		}
		time.Sleep(time.Second)
	}
	return errors.New("compactions have not ended after five minutes")
}

// crash sends some messages, kills the service and starts it again.
func (g *growingStore) crash() (took time.Duration, err error) {
	if err := g.fillMore(20_000); err != nil {
		return 0, err
	}
	if err := g.addWritten(); err != nil {
		return 0, err
	}
	g.kill()
	began := time.Now()
	err = g.restart()
	return time.Since(began), err
}

// addWritten adds the bytes that the process wrote, before it ends.
func (g *growingStore) addWritten() error {
	written, err := g.client.metric("messaging_store_written_bytes_total")
	g.written += written
	return err
}

// measureDisk measures the disk usage when idle: everything drained, nothing left to
// compact.
func (s *suite) measureDisk(g *growingStore) error {
	if err := g.addWritten(); err != nil {
		return err
	}
	if err := g.stop(); err != nil {
		return err
	}
	if err := g.restart(); err != nil {
		return err
	}
	if err := g.waitForCompactions(); err != nil {
		return err
	}
	if err := g.stop(); err != nil {
		return err
	}
	onDisk, err := bytesUnder(g.config.Dir)
	if err != nil {
		return err
	}
	bodies := float64(g.bodies.Load())
	r := measure.Result{
		Workload: "stored", Size: float64(g.messages), SizeName: "messages stored",
		Note: fmt.Sprintf("bodies of %.0f bytes on average, with a text of 150 bytes of everyday English (bench/traffic); all are in a queue and in the log, drained, idle", bodies/float64(g.messages)),
	}
	for _, one := range []struct {
		what, unit string
		value      float64
		most       float64
	}{
		{"disk usage relative to the bodies", "bytes per byte", onDisk / bodies, 1.4},
		{"disk", "bytes per message", onDisk / float64(g.messages), 0},
		{"write amplification", "bytes written per byte of bodies", g.written / bodies, 5},
	} {
		r.Case, r.Unit, r.Goals = one.what+", "+plural(g.messages, "message"), one.unit, nil
		if one.most > 0 && g.messages >= goalSize {
			r.Goals = []measure.Goal{{Most: one.most}}
		}
		r.Sides = []measure.Side{{
			Name: ours, Detail: "log and tables (messaging_store_written_bytes_total), and the whole data directory",
			Samples: []measure.Sample{{Value: one.value}},
		}}
		s.keep(r)
	}
	return g.restart()
}

// bytesUnder returns the disk usage of the files in a directory.
func bytesUnder(dir string) (total float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += float64(info.Size())
		}
		return err
	})
	return total, err
}

// smallStore is the size of the store that the grown store is compared with.
const smallStore = 10_000

// compareWithSmall measures the same work on the grown store and on a small one, in
// turn.
func (s *suite) compareWithSmall(g *growingStore) error {
	v, err := s.start("small")
	if err != nil {
		return err
	}
	few := &growingStore{service: v, users: smallStore / 10}
	name := plural(smallStore, "message")
	side := func(g *growingStore, round func(g *growingStore) (measure.Sample, error)) measure.Measured {
		label := ours
		if g == few {
			label = name
		}
		return measure.Measured{Name: label, Round: func() (measure.Sample, error) { return round(g) }}
	}
	err = few.fillTo(smallStore)
	for _, one := range []struct {
		what, unit string
		goal       measure.Goal
		round      func(g *growingStore) (measure.Sample, error)
	}{
		{"take 10 of a random user, one at a time", "ms (p50)", measure.Goal{Against: name, Most: 4}, (*growingStore).takeSome},
		{"send, 64 connections (wrk)", perSecond, measure.Goal{Against: name, Least: 1 / 1.3}, func(g *growingStore) (measure.Sample, error) {
			return wrk(g.URL, 64, s.scale.each, nil)
		}},
		{"drain", perSecond, measure.Goal{Against: name, Least: 1 / 1.3}, func(g *growingStore) (measure.Sample, error) { return s.drainOf(g) }},
	} {
		r := measure.Result{Workload: "stored", Case: one.what + ", with " + plural(g.messages, "message"), Unit: one.unit}
		if g.messages >= goalSize {
			r.Goals = []measure.Goal{one.goal}
		}
		if err == nil {
			err = s.inTurnFor(r, min(3, s.rounds), side(g, one.round), side(few, one.round))
		}
	}
	return errors.Join(err, few.stop(), os.RemoveAll(few.config.Dir))
}

// takeSome takes ten messages from users drawn from all, and sends as many again.
func (g *growingStore) takeSome() (measure.Sample, error) {
	const takes = 200
	r := rand.New(rand.NewPCG(uint64(g.messages), uint64(time.Now().UnixNano()))) //nolint:gosec // chance, not secrecy
	latencies := measure.NewLatencies()
	for range takes {
		user := userOf(r.IntN(g.users), g.users)
		began := time.Now()
		if err := g.client.call("GET", fmt.Sprintf("/api/messages/queue/%d?max_count=10", user), "", nil, nil); err != nil {
			return measure.Sample{}, err
		}
		latencies.Record(time.Since(began))
		if err := g.client.fill(10, func(b []byte, _ int) []byte { return traffic.AppendMessage(b, user) }); err != nil {
			return measure.Sample{}, err
		}
	}
	return measure.Sample{Value: latencies.At(0.5), Latency: latencies.Summary()}, nil
}

// drainOf starts the store with a sink and measures how fast new messages are drained.
func (s *suite) drainOf(g *growingStore) (sample measure.Sample, err error) {
	n := s.scale.drained / 2
	k := &sink{}
	if err := k.listen(n); err != nil {
		return sample, err
	}
	plain := g.config.Env
	defer func() { g.config.Env = plain }()
	g.config.Env = append(append([]string(nil), plain...), "DJANGO_API_URL=http://"+k.address, "PERSIST_TIMEOUT=300s")
	if err := errors.Join(g.stop(), g.restart()); err != nil {
		return sample, err
	}
	if err := g.client.fill(n, func(b []byte, i int) []byte { return traffic.AppendMessage(b, i%traffic.Users) }); err != nil {
		return sample, err
	}
	time.Sleep(g.quiesce)
	sample, err = k.drain(n)
	err = errors.Join(err, k.server.Close(), g.stop())
	g.config.Env = plain
	return sample, errors.Join(err, g.restart())
}
