package fsck

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// entries counts the entries of one index by user, and compares them with the counts.
func (c *checker) entries(index schema.Index) error {
	var user messaging.UserID
	var depth schema.Depth
	begun := false
	flush := func() error {
		if !begun {
			return nil
		}
		if index == schema.Queued || c.newUser(user) {
			c.report.Users++
		}
		return c.compare(index, user, depth)
	}
	err := tables.ScanTable(c.reader, byte(index), func(key, value []byte) (bool, error) {
		of, p, seq, err := schema.ParseEntryKey(key)
		if err != nil {
			c.report.Add("table "+string(index), "has a malformed key")
			return true, nil //nolint:nilerr // it is in the report
		}
		if c.cleared.Has(of, seq) {
			return true, nil
		}
		if of != user || !begun {
			if err := flush(); err != nil {
				return false, err
			}
			user, depth, begun = of, schema.Depth{}, true
		}
		if depth.Counts[p] == 0 {
			depth.Heads[p] = seq
		}
		depth.Counts[p]++
		c.report.Entries++
		return true, c.entry(index, user, p, seq, value)
	})
	return errors.Join(err, flush())
}

// newUser reports whether a user with delayed entries has no other entries.
func (c *checker) newUser(user messaging.UserID) bool {
	u, err := c.reader.QueueState(user)
	return err == nil && u.Depth.Total() == 0
}

// compare checks that the counts of an index match its entries, and that no entry is
// before the head.
func (c *checker) compare(index schema.Index, user messaging.UserID, there schema.Depth) error {
	kept, err := c.reader.QueueState(user)
	if err != nil {
		c.report.Add("counts of user "+string(user), "cannot be read: %v", err)
		return nil
	}
	counted := kept.On(index)
	if counted.Counts != there.Counts {
		c.report.Add("queue of user "+string(user), "has %v messages (high, normal, low; table %c), but %v are counted", there.Counts, index, counted.Counts)
	}
	for p := range there.Heads {
		if there.Counts[p] > 0 && counted.Heads[p] > there.Heads[p] {
			c.report.Add("queue of user "+string(user), "begins at %d, but is read from %d on (table %c)", there.Heads[p], counted.Heads[p], index)
		}
	}
	return nil
}

// entry checks that an entry has a record, and a timer for each of its times.
func (c *checker) entry(index schema.Index, user messaging.UserID, p messaging.Priority, seq uint64, value []byte) error {
	where := func() string { return fmt.Sprintf("entry of user %s for message %d", user, seq) }
	e, err := schema.DecodeEntry(value)
	if err != nil {
		c.report.Add(where(), "cannot be read")
		return nil //nolint:nilerr // it is in the report
	}
	if !c.HasMessage(seq) {
		c.report.Add(where(), "has no record")
	}
	if index == schema.Delayed {
		if e.Due == 0 {
			c.report.Add(where(), "is delayed but has no due time")
		}
		if err := c.wantTimer(where, schema.Due, schema.Timer{At: e.Due, Sequence: seq, User: user}); err != nil {
			return err
		}
		if _, twice, err := c.reader.Entry(schema.Queued, user, p, seq); err != nil {
			return err
		} else if twice {
			c.report.Add(where(), "is both queued and delayed")
		}
	}
	if e.Expires != 0 {
		return c.wantTimer(where, schema.Expiry, schema.Timer{At: e.Expires, Sequence: seq, User: user})
	}
	return nil
}

func (c *checker) wantTimer(where func() string, what schema.Event, t schema.Timer) error {
	err := tables.Get(c.reader, schema.AppendTimerKey(nil, what, t), func([]byte) error { return nil })
	if errors.Is(err, layout.ErrNotFound) {
		c.report.Add(where(), "has no timer (table %c)", what)
		return nil
	}
	return err
}

// counts checks that every counted queue has entries, and checks the sum of all counts.
func (c *checker) counts() error {
	var sum uint64
	err := tables.ScanTable(c.reader, schema.TableUser, func(key, value []byte) (bool, error) {
		user, rest, ok := schema.CutUserID(key)
		u, err := schema.DecodeQueueState(value)
		if !ok || len(rest) > 0 || err != nil {
			c.report.Add("table u (counts)", "has an entry that cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		sum += u.Total()
		for _, index := range []schema.Index{schema.Queued, schema.Delayed} {
			if u.On(index).Total() == 0 {
				continue
			}
			prefix := schema.AppendUserID(nil, byte(index), messaging.UserID(user))
			there := false
			if err := tables.Scan(c.reader, prefix, schema.PrefixEnd(prefix), func(key, _ []byte) (bool, error) {
				_, _, seq, err := schema.ParseEntryKey(key)
				there = err == nil && !c.cleared.Has(messaging.UserID(user), seq)
				return !there, nil
			}); err != nil {
				return false, err
			}
			if !there {
				c.report.Add("queue of user "+string(user), "is empty (table %c), but has a count of %d", index, u.On(index).Total())
			}
		}
		return true, nil
	})
	if err == nil && int64(sum) != c.meta.Queued {
		c.report.Add("table m (meta)", "has a count of %d for queued messages, but the queues' counts add up to %d", c.meta.Queued, sum)
	}
	return err
}

// timers checks that every timer has an entry.
func (c *checker) timers(what schema.Event) error {
	return tables.ScanTable(c.reader, byte(what), func(key, value []byte) (bool, error) {
		t, err := schema.ParseTimerKey(key)
		if err != nil || len(value) != 1 || value[0] >= messaging.Priorities {
			c.report.Add("table "+string(what), "has an entry that cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		if c.cleared.Has(t.User, t.Sequence) {
			return true, nil
		}
		ok, err := c.hasEvent(what, t, messaging.Priority(value[0]))
		if err == nil && !ok {
			c.report.Add(fmt.Sprintf("timer of user %s for message %d", t.User, t.Sequence), "has no entry (table %c)", what)
		}
		return true, err
	})
}

func (c *checker) hasEvent(what schema.Event, t schema.Timer, p messaging.Priority) (bool, error) {
	for _, index := range []schema.Index{schema.Queued, schema.Delayed} {
		e, ok, err := c.reader.Entry(index, t.User, p, t.Sequence)
		switch {
		case err != nil:
			return false, err
		case ok && what == schema.Expiry && e.Expires == t.At, ok && what == schema.Due && index == schema.Delayed && e.Due == t.At:
			return true, nil
		}
	}
	return false, nil
}
