package storage

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging"
)

// entries counts one shelf, user by user, and compares each with what is counted.
func (c *checker) entries(shelf Shelf) error {
	var user messaging.UserID
	var tally Tally
	begun := false
	flush := func() error {
		if !begun {
			return nil
		}
		if shelf == Queued || c.newUser(user) {
			c.report.Users++
		}
		return c.compare(shelf, user, tally)
	}
	err := c.store.scan([]byte{byte(shelf)}, []byte{byte(shelf) + 1}, func(key, value []byte) (bool, error) {
		of, p, seq, err := parseEntryKey(key)
		if err != nil {
			c.report.add("table "+string(shelf), "has a key that nothing has written")
			return true, nil //nolint:nilerr // it is in the report
		}
		if of != user || !begun {
			if err := flush(); err != nil {
				return false, err
			}
			user, tally, begun = of, Tally{}, true
		}
		if tally.Counts[p] == 0 {
			tally.Heads[p] = seq
		}
		tally.Counts[p]++
		c.report.Entries++
		return true, c.entry(shelf, user, p, seq, value)
	})
	return errors.Join(err, flush())
}

// newUser says whether a user with entries that are due later has no others.
func (c *checker) newUser(user messaging.UserID) bool {
	u, err := c.store.User(user)
	return err == nil && u.Tally.Total() == 0
}

// compare wants the counts of a shelf to be those of its entries, and no entry
// before its head.
func (c *checker) compare(shelf Shelf, user messaging.UserID, there Tally) error {
	kept, err := c.store.User(user)
	if err != nil {
		c.report.add("counts of user "+string(user), "cannot be read: %v", err)
		return nil
	}
	counted := kept.On(shelf)
	if counted.Counts != there.Counts {
		c.report.add("queue of user "+string(user), "has %v messages (high, normal, low; table %c), and %v are counted", there.Counts, shelf, counted.Counts)
	}
	for p := range there.Heads {
		if there.Counts[p] > 0 && counted.Heads[p] > there.Heads[p] {
			c.report.add("queue of user "+string(user), "begins at %d and is read from %d on (table %c)", there.Heads[p], counted.Heads[p], shelf)
		}
	}
	return nil
}

// entry wants the record of an entry, and a note of each of its times.
func (c *checker) entry(shelf Shelf, user messaging.UserID, p messaging.Priority, seq uint64, value []byte) error {
	where := func() string { return fmt.Sprintf("entry of user %s for message %d", user, seq) }
	e, err := decodeEntry(value)
	if err != nil {
		c.report.add(where(), "cannot be read")
		return nil //nolint:nilerr // it is in the report
	}
	if !c.hasMessage(seq) {
		c.report.add(where(), "has no record")
	}
	if shelf == Delayed {
		if e.Due == 0 {
			c.report.add(where(), "is due later and does not say when")
		}
		if err := c.wantTimer(where, Due, Timer{e.Due, seq, user}); err != nil {
			return err
		}
		if _, twice, err := c.store.Entry(Queued, user, p, seq); err != nil {
			return err
		} else if twice {
			c.report.add(where(), "is both in the queue and due later")
		}
	}
	if e.Expires != 0 {
		return c.wantTimer(where, Expiry, Timer{e.Expires, seq, user})
	}
	return nil
}

func (c *checker) wantTimer(where func() string, what Event, t Timer) error {
	err := c.store.get(appendTimerKey(nil, what, t), func([]byte) error { return nil })
	if errors.Is(err, ErrNotFound) {
		c.report.add(where(), "has no note of its time (table %c)", what)
		return nil
	}
	return err
}

// counts wants entries wherever some are counted, and the sum of all.
func (c *checker) counts() error {
	var sum uint64
	err := c.store.scan([]byte{tableUser}, []byte{tableUser + 1}, func(key, value []byte) (bool, error) {
		user, rest, ok := userOf(key)
		u, err := decodeUser(value)
		if !ok || len(rest) > 0 || err != nil {
			c.report.add("table u (counts)", "has an entry that cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		sum += u.Total()
		for _, shelf := range []Shelf{Queued, Delayed} {
			if u.On(shelf).Total() == 0 {
				continue
			}
			prefix := appendUser(nil, byte(shelf), messaging.UserID(user))
			there := false
			if err := c.store.scan(prefix, prefixEnd(prefix), func(_, _ []byte) (bool, error) { there = true; return false, nil }); err != nil {
				return false, err
			}
			if !there {
				c.report.add("queue of user "+string(user), "is empty (table %c), and %d are counted", shelf, u.On(shelf).Total())
			}
		}
		return true, nil
	})
	if err == nil && int64(sum) != c.meta.Queued {
		c.report.add("table m (meta)", "says that %d messages are queued, and %d are counted", c.meta.Queued, sum)
	}
	return err
}

// timers wants the entry of each note of a time.
func (c *checker) timers(what Event) error {
	return c.store.scan([]byte{byte(what)}, []byte{byte(what) + 1}, func(key, value []byte) (bool, error) {
		t, err := parseTimerKey(key)
		if err != nil || len(value) != 1 || value[0] >= messaging.Priorities {
			c.report.add("table "+string(what), "has an entry that cannot be read")
			return true, nil //nolint:nilerr // it is in the report
		}
		ok, err := c.hasEvent(what, t, messaging.Priority(value[0]))
		if err == nil && !ok {
			c.report.add(fmt.Sprintf("note of a time of user %s for message %d", t.User, t.Sequence), "has no entry (table %c)", what)
		}
		return true, err
	})
}

func (c *checker) hasEvent(what Event, t Timer, p messaging.Priority) (bool, error) {
	for _, shelf := range []Shelf{Queued, Delayed} {
		e, ok, err := c.store.Entry(shelf, t.User, p, t.Sequence)
		switch {
		case err != nil:
			return false, err
		case ok && what == Expiry && e.Expires == t.At, ok && what == Due && shelf == Delayed && e.Due == t.At:
			return true, nil
		}
	}
	return false, nil
}
