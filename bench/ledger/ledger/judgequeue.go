package ledger

import "cmp"

// queues judges what readers got, in the order in which they got it, and what is
// left in the queues at the end.
func (j *judge) queues(left map[int][]received) {
	orders := make(map[int]*order)
	for _, t := range j.book.takes {
		if orders[t.user] == nil {
			orders[t.user] = new(order)
		}
		j.take(t, orders[t.user])
	}
	for user, messages := range left {
		j.sorted(messages, "left")
		for i := range messages {
			it, s := j.check(&messages[i], user, "left")
			if s == nil {
				continue
			}
			if s.there {
				j.find(Duplicated, "%s is in the queue of user %s twice", it.Ref, userName(user))
			}
			j.comesAgain(it, s, connection{}, "at the end")
			s.there = true
			j.verdict.Queued++
		}
	}
	for _, s := range j.items {
		switch {
		case s.there:
		case s.queue == taken:
			j.verdict.Taken++
		case s.queue == acknowledged:
			j.verdict.Acknowledged++
		}
	}
}

// order is how far a reader of one queue has come on one connection: within a
// priority nothing older may follow.
type order struct {
	on   connection
	last [len(priorities)]uint64
}

func (j *judge) take(t *taking, o *order) {
	switch {
	case t.nothing:
		return
	case !t.answered:
		if !t.leased {
			j.excuses[t.user] += t.count
		}
		return
	case t.late:
		j.takeLate(t)
		return
	}
	if o.on != t.on {
		*o = order{on: t.on}
	}
	j.sorted(t.messages, "taken")
	for i := range t.messages {
		m := &t.messages[i]
		it, s := j.check(m, t.user, "taken")
		if s == nil {
			continue
		}
		switch sent := j.message(m.ref); {
		case sent.delayed: // it enters at its place, when others have gone
		case m.sequence > o.last[sent.priority]:
			o.last[sent.priority] = m.sequence
		default:
			j.find(Reordered, "user %s got %s (sequence %d) after %d of the same priority", userName(t.user), m.ref, m.sequence, o.last[sent.priority])
		}
		j.comesAgain(it, s, t.on, "later")
		s.taking = t
		s.queue = t.after(i)
	}
	if t.ending == "nacked" {
		*o = order{} // they come back to their places
	}
}

// after is where the take left a message.
func (t *taking) after(i int) place {
	switch {
	case !t.leased:
		return taken
	case t.ending == "":
		return leased
	case !t.ended || t.endedLate:
		return anywhere
	case t.results[i] == "acked":
		return acknowledged
	case t.results[i] == "nacked":
		return inQueue
	}
	return leased // its receipt was no longer good
}

// takeLate is a take from a service that was cut off already. It says nothing of
// what there is; what was taken for good may be gone or not.
func (j *judge) takeLate(t *taking) {
	for i := range t.messages {
		it := item{t.messages[i].ref, t.user}
		if t.leased && t.ending == "" {
			continue
		}
		j.loose[it] = true
		if s := j.items[it]; s != nil {
			s.queue = anywhere
		}
	}
}

// comesAgain judges a message that is given out although it was before.
func (j *judge) comesAgain(it item, s *state, on connection, when string) {
	ok := true
	var cut int64
	wasCut := false // since then: a reader notes that before it goes on
	if s.taking != nil && s.taking.on != on {
		cut, wasCut = j.book.cuts[s.taking.on]
	}
	switch s.queue {
	case inQueue, anywhere:
	case acknowledged:
		ok = false
	case leased: // a restart frees it, and nothing else does in the time of a run
		ok = wasCut || j.book.restarted
	case taken: // a crash right after may repeat it
		ok = wasCut && cut-s.taking.when <= graceOfTakes.Milliseconds()
	}
	if !ok {
		j.find(Duplicated, "%s was given to user %s, and %s again (it was %s)", it.Ref, userName(it.user), when, s.queue)
	}
}

func (p place) String() string {
	return [...]string{"in the queue", "leased", "taken for good", "acknowledged", "anywhere"}[p]
}

// sorted looks at the order of messages that were there at one moment.
func (j *judge) sorted(messages []received, where string) {
	for i := 1; i < len(messages); i++ {
		a, b := &messages[i-1], &messages[i]
		if !j.book.sent(a.ref.Call) || !j.book.sent(b.ref.Call) {
			continue
		}
		x, y := j.message(a.ref).priority, j.message(b.ref).priority
		if cmp.Or(cmp.Compare(x, y), cmp.Compare(a.sequence, b.sequence)) >= 0 {
			j.find(Reordered, "%s: %s (priority %d, sequence %d) before %s (priority %d, sequence %d)", where, a.ref, x, a.sequence, b.ref, y, b.sequence)
		}
	}
}
