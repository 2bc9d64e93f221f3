package ledger

import "cmp"

// queues judges what readers got, in the order in which they got it, and what is left
// in the queues at the end.
func (j *judge) queues(left map[int][]received) {
	orders := make(map[int]*order)
	for _, t := range j.ledger.takes {
		if orders[t.user] == nil {
			orders[t.user] = new(order)
		}
		j.take(t, orders[t.user])
	}
	for user, messages := range left {
		j.checkOrder(messages, "left")
		for i := range messages {
			it, s := j.check(&messages[i], user, "left")
			if s == nil {
				continue
			}
			if s.there {
				j.find(Duplicated, "%s is in the queue of user %s twice", it.Ref, userName(user))
			}
			j.checkRepeat(it, s, connection{}, "at the end")
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

// order is the progress of a reader of one queue on one connection: within a priority
// no older message may follow.
type order struct {
	on   connection
	last [len(priorities)]uint64
}

func (j *judge) take(t *takeRecord, o *order) {
	switch {
	case t.nothing:
		return
	case !t.answered:
		if !t.leased {
			j.allowedMissing[t.user] += t.count
		}
		return
	case t.late:
		j.takeLate(t)
		return
	}
	if o.on != t.on {
		*o = order{on: t.on}
	}
	j.checkOrder(t.messages, "taken")
	for i := range t.messages {
		m := &t.messages[i]
		it, s := j.check(m, t.user, "taken")
		if s == nil {
			continue
		}
		switch sent := j.message(m.ref); {
		case sent.delayed: // it enters at its place, after others have left
		case m.sequence > o.last[sent.priority]:
			o.last[sent.priority] = m.sequence
		default:
			j.find(Reordered, "user %s got %s (sequence %d) after %d of the same priority", userName(t.user), m.ref, m.sequence, o.last[sent.priority])
		}
		j.checkRepeat(it, s, t.on, "later")
		s.lastTake = t
		s.queue = t.after(i)
	}
	if t.ending == "nacked" {
		*o = order{} // the messages return to their places
	}
}

// after returns where the take left a message.
func (t *takeRecord) after(i int) place {
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
	return leased // its receipt was no longer valid
}

// takeLate handles a take from a service whose power was already cut. It shows nothing
// about the present state: what it took permanently may or may not be gone.
func (j *judge) takeLate(t *takeRecord) {
	for i := range t.messages {
		it := item{t.messages[i].ref, t.user}
		if t.leased && t.ending == "" {
			continue
		}
		j.deliveredLate[it] = true
		if s := j.items[it]; s != nil {
			s.queue = anywhere
		}
	}
}

// checkRepeat judges a message that is delivered again.
func (j *judge) checkRepeat(it item, s *state, on connection, when string) {
	ok := true
	var cut int64
	wasCut := false // the connection broke since; a reader records that before it continues
	if s.lastTake != nil && s.lastTake.on != on {
		cut, wasCut = j.ledger.cuts[s.lastTake.on]
	}
	switch s.queue {
	case inQueue, anywhere:
	case acknowledged:
		ok = false
	case leased: // only a restart ends a lease during a run
		ok = wasCut || j.ledger.restarted
	case taken: // a crash right after the take may repeat it
		ok = wasCut && cut-s.lastTake.when <= takeGrace.Milliseconds()
	}
	if !ok {
		j.find(Duplicated, "%s was delivered to user %s, and %s again (it was %s)", it.Ref, userName(it.user), when, s.queue)
	}
}

func (p place) String() string {
	return [...]string{"in the queue", "leased", "taken permanently", "acknowledged", "anywhere"}[p]
}

// checkOrder checks the order of messages that were present at the same time.
func (j *judge) checkOrder(messages []received, where string) {
	for i := 1; i < len(messages); i++ {
		a, b := &messages[i-1], &messages[i]
		if !j.ledger.sent(a.ref.Call) || !j.ledger.sent(b.ref.Call) {
			continue
		}
		x, y := j.message(a.ref).priority, j.message(b.ref).priority
		if cmp.Or(cmp.Compare(x, y), cmp.Compare(a.sequence, b.sequence)) >= 0 {
			j.find(Reordered, "%s: %s (priority %d, sequence %d) before %s (priority %d, sequence %d)", where, a.ref, x, a.sequence, b.ref, y, b.sequence)
		}
	}
}
