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

// onces are the calls with an idempotency key that are under way. What has been
// answered is on disk, in the commit of what it stored.
type onces struct {
	mu    sync.Mutex
	calls map[onceKey]chan struct{} // closed when the call has ended
}

type onceKey struct {
	scope [16]byte
	key   string
}

// enter begins a call, or gives what to wait for when its twin is under way.
func (o *onces) enter(k onceKey) (wait <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if twin, ok := o.calls[k]; ok {
		return twin
	}
	if o.calls == nil {
		o.calls = make(map[onceKey]chan struct{})
	}
	o.calls[k] = make(chan struct{})
	return nil
}

func (o *onces) leave(k onceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.calls[k])
	delete(o.calls, k)
}

func (o *onces) underWay(k onceKey) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.calls[k]
	return ok
}

// once does a call that stores something, or gives the answer of an earlier one
// with the same key. A twin that is under way is waited for. What do commits
// must be staged with the once that it is given, so that the key becomes
// durable with what it stands for.
func (e *Engine) once(o messaging.Once, do func(once *onceStage) (messaging.Receipt, error)) (messaging.Receipt, error) {
	if o.Key == "" {
		return do(nil)
	}
	k := onceKey{o.Scope, o.Key}
	for {
		twin := e.onces.enter(k)
		if twin == nil {
			break
		}
		<-twin
	}
	defer e.onces.leave(k)
	now := e.now()
	earlier, ok, err := e.store.Once(o.Scope, o.Key)
	if err != nil {
		return messaging.Receipt{}, internal(err)
	}
	if ok && earlier.Expires > now.UnixMilli() {
		if earlier.Hash != o.Hash {
			return messaging.Receipt{}, messaging.FieldErrorf(messaging.CodeIdempotencyConflict, "idempotency_key", "the idempotency key was used before with another body: nothing was stored")
		}
		e.counters.duplicates.Add(1)
		earlier.Receipt.Duplicate = true
		return earlier.Receipt, nil
	}
	return do(&onceStage{once: o, expires: now.Add(e.config.IdempotencyWindow).UnixMilli()})
}

// onceStage adds an idempotency key to a commit. Nil is none.
type onceStage struct {
	once    messaging.Once
	expires int64
}

func (s *onceStage) put(tx *wal.Tx, r messaging.Receipt) {
	if s != nil {
		tx.PutOnce(s.once.Scope, s.once.Key, storage.OnceRecord{Hash: s.once.Hash, Expires: s.expires, Receipt: r})
	}
}

// sweepPage is how many keys are forgotten in one commit.
const sweepPage = 1024

// Sweep forgets the idempotency keys whose window is over, until the context
// ends.
func (e *Engine) Sweep(ctx context.Context) error {
	from := int64(0)
	return e.everySteady(ctx, min(time.Minute, max(time.Second, e.config.IdempotencyWindow/20)), func(now time.Time) error {
		if err := e.sweep(ctx, &from, now.UnixMilli()); err != nil {
			return fmt.Errorf("sweep idempotency keys: %w", err)
		}
		return nil
	})
}

// everySteady does something now and then until the context ends or it fails,
// but not while the clock was set: things are kept for longer rather than less.
func (e *Engine) everySteady(ctx context.Context, interval time.Duration, do func(now time.Time) error) error {
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

// sweep forgets what is over at a time. from is where to begin: what is behind
// it still has to be walked over on disk.
func (e *Engine) sweep(ctx context.Context, from *int64, now int64) error {
	for ctx.Err() == nil {
		ends, err := e.store.OnceEnds(min(*from, now), now, sweepPage)
		if err != nil || len(ends) == 0 {
			return err
		}
		c := &sweepChange{engine: e, ends: ends}
		if err := e.log.Insist(c); err != nil {
			if messaging.CodeOf(err) == messaging.CodeShuttingDown {
				return nil
			}
			return err
		}
		if c.err != nil {
			return c.err
		}
		if *from = ends[len(ends)-1].At; c.skipped != 0 {
			*from = c.skipped // the next sweep looks again
			return nil
		}
	}
	return nil
}

// sweepChange is idempotency keys being forgotten.
type sweepChange struct {
	engine *Engine
	ends   []storage.OnceEnd
	// skipped is the time of the first key that was in use.
	skipped int64
	err     error
}

// Records implements [wal.Change]: there are none.
func (c *sweepChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. A key that was used anew since stays, and one
// that is being used is left alone: its call may be in this very commit.
func (c *sweepChange) Stage(tx *wal.Tx) {
	for _, end := range c.ends {
		if c.engine.onces.underWay(onceKey{end.Scope, end.Key}) {
			if c.skipped == 0 {
				c.skipped = end.At
			}
			continue
		}
		kept, ok, err := c.engine.store.Once(end.Scope, end.Key)
		if err != nil {
			c.err = err
			return
		}
		tx.DeleteOnce(end, ok && kept.Expires != end.At)
	}
}

// Published implements [wal.Change].
func (c *sweepChange) Published() {}
