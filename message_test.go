package messaging_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

// Times are in UTC, with three digits of milliseconds.
func TestTimesHaveMilliseconds(t *testing.T) {
	milliseconds := []int64{0, 1, 10, 999, 1000, -1, -62135596800000, 253402300799999, 253402300800000}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		milliseconds = append(milliseconds, random.Int64N(253402300800000))
	}
	for _, ms := range milliseconds {
		at := time.UnixMilli(ms).In(time.FixedZone("elsewhere", 3600))
		m := messaging.Message{CreatedAt: at, DeliverAt: at, Body: []byte("{}")}
		stamp := at.UTC().Format("2006-01-02T15:04:05.000Z")
		got := m.AppendJSON(nil)
		if !bytes.Contains(got, []byte(`"created_at":"`+stamp+`"`)) {
			t.Errorf("%d: want %s in %s", ms, stamp, got)
		}
	}
}
