package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// BenchmarkSendsBesideATrim measures how much a trim of many old messages slows concurrent
// sends, on the real disk: 64 senders run for some seconds without the trim, and as long
// with it. One operation is one such pair. It reports the p99 of each and their ratio (the
// median of all pairs).
func BenchmarkSendsBesideATrim(b *testing.B) {
	for _, queued := range []bool{true, false} {
		b.Run(fmt.Sprintf("queued=%t", queued), func(b *testing.B) { benchmarkTrim(b, queued) })
	}
}

const (
	trimBenchOld   = 1_000_000 // messages to trim
	trimBenchUsers = 20_000
	trimBenchSlice = 8 * time.Second
)

func benchmarkTrim(b *testing.B, queued bool) {
	b.Helper()
	dir := b.TempDir()
	old := openTrimBench(b, dir, 2*time.Hour)
	old.fill(queued)
	old.close()
	t := openTrimBench(b, dir, 0)
	t.sends(time.Second)
	var without, with, ratios []float64
	b.ResetTimer()
	for b.Loop() {
		alone := t.sends(trimBenchSlice)
		ctx, cancel := context.WithCancel(b.Context())
		trimmed := make(chan error)
		go func() {
			_, err := t.engine.Trim(ctx)
			trimmed <- err
		}()
		beside := t.sends(trimBenchSlice)
		cancel()
		if err := <-trimmed; err != nil {
			b.Fatal(err)
		}
		without, with, ratios = append(without, alone), append(with, beside), append(ratios, beside/alone)
	}
	b.StopTimer()
	b.ReportMetric(float64(t.engine.Stats().TrimmedByAge), "trimmed")
	for unit, values := range map[string][]float64{"p99-ms-without": without, "p99-ms-with": with, "ratio": ratios} {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
	t.close()
}

type trimBench struct {
	*testing.B
	store  *storage.Store
	log    *wal.Log
	engine *Engine
}

// openTrimBench opens a store whose clock is behind by so much.
func openTrimBench(b *testing.B, dir string, behind time.Duration) *trimBench {
	b.Helper()
	t := &trimBench{B: b}
	var err error
	if t.store, err = storage.Open(storage.Config{Dir: dir, Fatal: func(err error) { b.Error(err) }}); err != nil {
		b.Fatal(err)
	}
	if t.log, err = wal.Open(wal.Config{Store: t.store}); err != nil {
		b.Fatal(err)
	}
	t.engine, err = Open(Config{Store: t.store, Log: t.log, Retention: time.Hour, QueueMax: 1_000_000, Now: func() time.Time { return time.Now().Add(-behind) }})
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func (t *trimBench) close() {
	t.Helper()
	if err := errors.Join(t.log.Close(), t.store.Close()); err != nil {
		t.Error(err)
	}
}

func (t *trimBench) drafts(name string) []messaging.Draft {
	t.Helper()
	drafts := make([]messaging.Draft, trimBenchUsers)
	for i := range drafts {
		var err error
		drafts[i], err = messaging.ParseDraft(fmt.Appendf(nil,
			`{"conversation_id":%d,"sender_id":1,"receiver_id":"%s%d","text":"Hello from the load generator xxxxxxxxxxxxxxxxxxxxxxxxx"}`,
			i, name, i*7919%trimBenchUsers))
		if err != nil {
			t.Fatal(err)
		}
	}
	return drafts
}

// fill sends the messages to be trimmed, and takes them again unless they stay queued.
func (t *trimBench) fill(queued bool) {
	t.Helper()
	drafts := t.drafts("old")
	for n := 0; n < trimBenchOld; n += 1000 {
		at := n % trimBenchUsers
		if _, err := t.engine.SendAll(drafts[at:at+1000], messaging.IdempotencyKey{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < trimBenchUsers && !queued; i++ {
		if _, err := t.engine.Clear(drafts[i].Receiver); err != nil {
			t.Fatal(err)
		}
	}
}

// sends sends from 64 goroutines for a time, and returns the p99 in milliseconds.
func (t *trimBench) sends(d time.Duration) (p99 float64) {
	t.Helper()
	drafts, stop := t.drafts("new"), time.Now().Add(d)
	times := make([][]time.Duration, 64)
	var wg sync.WaitGroup
	for g := range times {
		wg.Go(func() {
			for i := g; time.Now().Before(stop); i += len(times) {
				began := time.Now()
				if _, err := t.engine.Send(drafts[i%len(drafts)], messaging.IdempotencyKey{}); err != nil {
					t.Error(err)
					return
				}
				times[g] = append(times[g], time.Since(began))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(times...)
	slices.Sort(all)
	return float64(all[len(all)*99/100].Microseconds()) / 1000
}
