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

// goalSize is how many messages are stored where goals are set: a small store has
// its log beside it, which is as large whatever is stored.
const goalSize = 10_000_000

// userOf is to whom the i-th of so many stored messages goes: ten to each user,
// who come one after the other ten times.
func userOf(i, users int) int { return leased + i%users }

// grown is a store that grows from size to size, and what went into it.
type grown struct {
	*service
	messages int
	users    int
	bodies   atomic.Int64 // bytes of all bodies
	written  float64      // bytes that earlier processes wrote
}

// stored lets a store grow; at each size the service is killed and started
// again. At the last one it is weighed, and compared with a small one.
func stored(s *suite) error {
	largest := s.scale.stored[len(s.scale.stored)-1]
	v, err := s.start("stored")
	if err != nil {
		return err
	}
	g := &grown{service: v, users: largest / 10}
	for _, size := range s.scale.stored {
		if err == nil {
			err = s.growTo(g, size)
		}
	}
	if err == nil {
		err = s.weigh(g)
	}
	if err == nil {
		err = s.compareWithSmall(g)
	}
	if g.Program != nil {
		err = errors.Join(err, g.stop())
	}
	return errors.Join(err, os.RemoveAll(g.config.Dir))
}

// growTo fills the store up to a size, and measures starts after kill -9.
func (s *suite) growTo(g *grown, size int) error {
	s.say("  filling up to %s", plural(size, "message"))
	if err := g.fillTo(size); err != nil {
		return err
	}
	r := measure.Result{Workload: "stored", Case: "ready after kill -9, " + plural(size, "message"), Size: float64(size), SizeName: "messages stored", Unit: "s"}
	if size >= goalSize {
		r.Goals = []measure.Goal{{Most: 5}}
	}
	memory := measure.Side{Name: ours, Detail: "idle, just started"}
	err := s.turns(r, min(3, s.rounds), measure.Measured{Name: ours, Detail: "20,000 sent in batches, then kill -9; until /health/ready answers 200", Round: func() (measure.Sample, error) {
		took, err := g.crash()
		if err != nil {
			return measure.Sample{}, err
		}
		time.Sleep(g.settle)
		mib, err := resident(g.PID)
		memory.Samples = append(memory.Samples, measure.Sample{Value: mib})
		return measure.Sample{Value: took.Seconds()}, err
	}})
	r.Case, r.Unit, r.Goals, r.Sides = "resident after a start, "+plural(size, "message"), "MiB", nil, []measure.Side{memory}
	s.keep(r)
	return err
}

// fillTo sends until so many were sent.
func (g *grown) fillTo(size int) error {
	err := g.fillMore(size - g.messages)
	return errors.Join(err, g.calm())
}

func (g *grown) fillMore(n int) error {
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

// calm waits until the store compacts no more: what it means to do has stood
// still for a while.
func (g *grown) calm() error {
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

// crash sends a little, kills the service and starts it again.
func (g *grown) crash() (took time.Duration, err error) {
	if err := g.fillMore(20_000); err != nil {
		return 0, err
	}
	if err := g.note(); err != nil {
		return 0, err
	}
	g.kill()
	began := time.Now()
	err = g.again()
	return time.Since(began), err
}

// note adds up what the process wrote, before it goes.
func (g *grown) note() error {
	written, err := g.client.metric("messaging_store_written_bytes_total")
	g.written += written
	return err
}

// weigh measures the disk: at rest, all drained, nothing left to compact.
func (s *suite) weigh(g *grown) error {
	if err := g.note(); err != nil {
		return err
	}
	if err := g.stop(); err != nil {
		return err
	}
	if err := g.again(); err != nil {
		return err
	}
	if err := g.calm(); err != nil {
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
		Note: fmt.Sprintf("bodies of %.0f bytes on average, with everyday English of 150 bytes for a text (bench/traffic); all are in a queue and in the log, drained, at rest", bodies/float64(g.messages)),
	}
	for _, one := range []struct {
		what, unit string
		value      float64
		most       float64
	}{
		{"disk beside the bodies", "bytes a byte", onDisk / bodies, 1.4},
		{"disk", "bytes a message", onDisk / float64(g.messages), 0},
		{"write amplification", "bytes written a byte of bodies", g.written / bodies, 5},
	} {
		r.Case, r.Unit, r.Goals = one.what+", "+plural(g.messages, "message"), one.unit, nil
		if one.most > 0 && g.messages >= goalSize {
			r.Goals = []measure.Goal{{Most: one.most}}
		}
		r.Sides = []measure.Side{{Name: ours, Detail: "log and tables (messaging_store_written_bytes_total), and the whole data directory", Samples: []measure.Sample{{Value: one.value}}}}
		s.keep(r)
	}
	return g.again()
}

// bytesUnder is what the files of a directory take on disk.
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

// smallStore is what the grown store is compared with.
const smallStore = 10_000

// compareWithSmall does the same to the grown store and to a small one, in turn.
func (s *suite) compareWithSmall(g *grown) error {
	v, err := s.start("small")
	if err != nil {
		return err
	}
	few := &grown{service: v, users: smallStore / 10}
	name := plural(smallStore, "message")
	side := func(g *grown, round func(g *grown) (measure.Sample, error)) measure.Measured {
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
		round      func(g *grown) (measure.Sample, error)
	}{
		{"take 10 of one of all users, one at a time", "ms (p50)", measure.Goal{Against: name, Most: 4}, (*grown).takeSome},
		{"send, 64 connections (wrk)", perSecond, measure.Goal{Against: name, Least: 1 / 1.3}, func(g *grown) (measure.Sample, error) {
			return wrk(g.URL, 64, s.scale.each, nil)
		}},
		{"drain", perSecond, measure.Goal{Against: name, Least: 1 / 1.3}, func(g *grown) (measure.Sample, error) { return s.drainOf(g) }},
	} {
		r := measure.Result{Workload: "stored", Case: one.what + ", with " + plural(g.messages, "message"), Unit: one.unit}
		if g.messages >= goalSize {
			r.Goals = []measure.Goal{one.goal}
		}
		if err == nil {
			err = s.turns(r, min(3, s.rounds), side(g, one.round), side(few, one.round))
		}
	}
	return errors.Join(err, few.stop(), os.RemoveAll(few.config.Dir))
}

// takeSome takes ten from users drawn from all, and puts as many back: what a
// store of another size answers as fast.
func (g *grown) takeSome() (measure.Sample, error) {
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

// drainOf starts the store with a sink, and measures how fast what is sent then
// is drained.
func (s *suite) drainOf(g *grown) (sample measure.Sample, err error) {
	n := s.scale.drained / 2
	k := &sink{}
	if err := k.listen(n); err != nil {
		return sample, err
	}
	plain := g.config.Env
	defer func() { g.config.Env = plain }()
	g.config.Env = append(append([]string(nil), plain...), "DJANGO_API_URL=http://"+k.address, "PERSIST_TIMEOUT=300s")
	if err := errors.Join(g.stop(), g.again()); err != nil {
		return sample, err
	}
	if err := g.client.fill(n, func(b []byte, i int) []byte { return traffic.AppendMessage(b, i%traffic.Users) }); err != nil {
		return sample, err
	}
	time.Sleep(g.settle)
	sample, err = k.drain(n)
	err = errors.Join(err, k.server.Close(), g.stop())
	g.config.Env = plain
	return sample, errors.Join(err, g.again())
}
