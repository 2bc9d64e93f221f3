package http

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"
)

// requestIDs makes ids of requests: random characters of this run, and a counter. They are
// unique, and cheaper than random ids.
type requestIDs struct {
	run   string
	count atomic.Uint64
}

// runLength is the number of random bytes that distinguish the ids of this run.
const runLength = 6

func newRequestIDs() *requestIDs {
	var run [runLength]byte
	_, _ = rand.Read(run[:]) // it does not fail
	return &requestIDs{run: hex.EncodeToString(run[:]) + "-"}
}

func (ids *requestIDs) next() string {
	var buf [2*runLength + 1 + 20]byte
	return string(strconv.AppendUint(append(buf[:0], ids.run...), ids.count.Add(1), 10))
}
