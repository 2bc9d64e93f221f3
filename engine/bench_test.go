package engine

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// BenchmarkSend measures whole sends (record, queue entry, counts) to 10,000 users, on the
// real disk, in commits of about size messages.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("commits of %d", size), func(b *testing.B) { benchmarkSend(b, size) })
	}
}

func benchmarkSend(b *testing.B, size int) {
	b.Helper()
	store, err := storage.Open(storage.Config{Dir: b.TempDir(), Fatal: func(err error) { b.Fatal(err) }})
	if err != nil {
		b.Fatal(err)
	}
	var commits, messages int
	log, err := wal.Open(wal.Config{Store: store, Observe: func(changes, _ int, _ time.Duration) {
		commits++
		messages += changes
	}})
	if err != nil {
		b.Fatal(err)
	}
	e, err := Open(Config{Store: store, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	drafts := make([]messaging.Draft, 10_000)
	for i := range drafts {
		body := `{"conversation_id":` + strconv.Itoa(i) + `,"sender_id":1,"receiver_id":` + strconv.Itoa(i) +
			`,"text":"Hello from the load generator xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","message_type":"text","priority":"normal","metadata":{}}`
		if drafts[i], err = messaging.ParseDraft([]byte(body)); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		var wg sync.WaitGroup
		for i := range size {
			wg.Go(func() {
				if _, err := e.Send(drafts[(n*size+i*7919)%len(drafts)], messaging.IdempotencyKey{}); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "messages/s")
	if err := errors.Join(log.Close(), store.Close()); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(messages)/float64(commits), "messages/commit")
}
