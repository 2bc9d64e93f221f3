package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// inFlightCalls holds the running calls that have an idempotency key. The results of
// completed calls are on disk, in the same commit as what the call stored.
type inFlightCalls struct {
	mu    sync.Mutex
	calls map[callKey]chan struct{} // closed when the call has ended
	// ended holds the calls that have ended since a sweep began to read. It is nil while
	// no sweep runs.
	ended map[callKey]struct{}
}

type callKey struct {
	scope [16]byte
	key   string
}

// begin begins a call. If a call with the same key is in flight, it returns a channel that
// is closed when that call ends.
func (c *inFlightCalls) begin(k callKey) (wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if inFlight, ok := c.calls[k]; ok {
		return inFlight
	}
	if c.calls == nil {
		c.calls = make(map[callKey]chan struct{})
	}
	c.calls[k] = make(chan struct{})
	return nil
}

func (c *inFlightCalls) end(k callKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.calls[k])
	delete(c.calls, k)
	if c.ended != nil {
		c.ended[k] = struct{}{}
	}
}

// watch starts recording the calls that end; unwatch stops it.
func (c *inFlightCalls) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = make(map[callKey]struct{})
}

func (c *inFlightCalls) unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = nil
}

// inUse reports whether a call is in flight, or has ended since the watch began.
func (c *inFlightCalls) inUse(k callKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.calls[k]
	_, ended := c.ended[k]
	return ok || ended
}

// idempotent runs a call that stores something, or returns the stored result of an earlier
// call with the same key. It waits for a call in flight with the same key. The change that
// do commits must stage the idempotencyStage that do gets, so that the key becomes durable
// with the result.
func (e *Engine) idempotent(o messaging.IdempotencyKey, do func(key *idempotencyStage) (messaging.SendResult, error)) (messaging.SendResult, error) {
	if o.Key == "" {
		return do(nil)
	}
	k := callKey{o.Scope, o.Key}
	for {
		inFlight := e.inFlight.begin(k)
		if inFlight == nil {
			break
		}
		<-inFlight
	}
	defer e.inFlight.end(k)
	now := e.now()
	earlier, ok, err := e.store.IdempotencyRecord(o.Scope, o.Key)
	if err != nil {
		return messaging.SendResult{}, internal(err)
	}
	if ok && earlier.Expires > now.UnixMilli() {
		if earlier.Hash != o.Hash {
			return messaging.SendResult{}, messaging.FieldErrorf(messaging.CodeIdempotencyConflict, "idempotency_key",
				"the idempotency key was used before with another body: nothing was stored")
		}
		e.counters.duplicates.Add(1)
		earlier.Receipt.Duplicate = true
		return earlier.Receipt, nil
	}
	return do(&idempotencyStage{key: o, expires: now.Add(e.config.IdempotencyWindow).UnixMilli()})
}

// idempotencyStage adds an idempotency key to a commit. Nil adds none.
type idempotencyStage struct {
	key     messaging.IdempotencyKey
	expires int64
}

func (s *idempotencyStage) put(tx *wal.Tx, r messaging.SendResult) {
	if s != nil {
		tx.PutIdempotencyRecord(s.key.Scope, s.key.Key, storage.IdempotencyRecord{Hash: s.key.Hash, Expires: s.expires, Receipt: r})
	}
}

// sweepPage is how many keys one commit removes.
const sweepPage = 1024

// Sweep removes expired idempotency keys, until the context ends.
func (e *Engine) Sweep(ctx context.Context) error {
	from := int64(0)
	return e.everyWhileClockStable(ctx, min(time.Minute, max(time.Second, e.config.IdempotencyWindow/20)), func(now time.Time) error {
		if err := e.sweep(ctx, &from, now.UnixMilli()); err != nil {
			return fmt.Errorf("sweep idempotency keys: %w", err)
		}
		return nil
	})
}

// everyWhileClockStable calls do at an interval until the context ends or do fails. It
// skips calls during the quarantine after a clock jump, so data is kept too long rather
// than too short.
func (e *Engine) everyWhileClockStable(ctx context.Context, interval time.Duration, do func(now time.Time) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, steady := e.clock.read(e.config.Now(), time.Now())
		if !steady {
			continue
		}
		if err := do(now); err != nil {
			return err
		}
	}
}

// sweep removes the keys that have expired at now. from is where the scan begins: removed
// keys below it leave tombstones on disk, which a scan would have to skip.
func (e *Engine) sweep(ctx context.Context, from *int64, now int64) error {
	for ctx.Err() == nil {
		c, err := e.sweepPage(min(*from, now), now)
		if err != nil || c == nil {
			return err
		}
		if *from = c.ends[len(c.ends)-1].At; c.skipped != 0 {
			*from = c.skipped // the next sweep tries them again
			return nil
		}
	}
	return nil
}

// sweepPage removes one page of keys. It returns nil if there are none, or if the service
// stops. The keys are read before the commit. Only a call that is in flight or has ended
// since can have changed one in between; such keys are skipped.
func (e *Engine) sweepPage(from, now int64) (*sweepChange, error) {
	e.inFlight.watch()
	defer e.inFlight.unwatch()
	c, err := e.readIdempotencyExpiries(from, now)
	if err != nil || len(c.ends) == 0 {
		return nil, err
	}
	if err := e.log.CommitUnbounded(c); messaging.CodeOf(err) == messaging.CodeShuttingDown {
		return nil, nil //nolint:nilnil // the next start continues
	} else if err != nil {
		return nil, err
	}
	return c, nil
}

func (e *Engine) readIdempotencyExpiries(from, now int64) (*sweepChange, error) {
	snapshot := e.log.Snapshot()
	defer snapshot.Release()
	ends, err := snapshot.IdempotencyExpiries(from, now, sweepPage)
	if err != nil {
		return nil, err
	}
	c := &sweepChange{engine: e, ends: ends, renewed: make([]bool, len(ends))}
	for i, end := range ends {
		kept, ok, err := snapshot.IdempotencyRecord(end.Scope, end.Key)
		if err != nil {
			return nil, err
		}
		c.renewed[i] = ok && kept.Expires != end.At
	}
	return c, nil
}

// sweepChange removes expired idempotency keys.
type sweepChange struct {
	engine  *Engine
	ends    []storage.IdempotencyExpiry
	renewed []bool // by index in ends: the key has a later expiry now
	// skipped is the expiry of the first key that was in use, or 0.
	skipped int64
}

// Records implements [wal.Change]. It returns none.
func (c *sweepChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. It keeps a key that was used again since. It skips a key
// in use, because its call may be in this commit.
func (c *sweepChange) Stage(tx *wal.Tx) {
	for i, end := range c.ends {
		if c.engine.inFlight.inUse(callKey{end.Scope, end.Key}) {
			if c.skipped == 0 {
				c.skipped = end.At
			}
			continue
		}
		tx.DeleteIdempotencyRecord(end, c.renewed[i])
	}
}

// OnDurable implements [wal.Change].
func (c *sweepChange) OnDurable() {}
