package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
)

// dueLater has messages that were nacked with the longest delay, a day: they are
// delayed in a store of today, and due in one of last week.
const dueLater = "nacked-later"

// users have queues worth a look; those of large broadcasts are others.
var users = []string{
	"7", "8", "9", "guest@example.org", "0b0c7a52-5a0c-4f0e-9d59-7d0a7f5f4a11", "later", "short", "both", "taken", "cleared",
	"nacked", dueLater, "leased", "acked", "given-up", "keyed", "front", "batch", "given-up-1", "given-up-2", "given-up-3",
}

func draft(receiver any, text string, more object) object {
	d := object{"conversation_id": 12, "sender_id": 1, "receiver_id": receiver, "text": text}
	maps.Copy(d, more)
	return d
}

func (s *service) send(receiver any, text string, more object) {
	s.call("POST", "/api/messages/send", draft(receiver, text, more))
}

func (s *service) broadcast(text string, ids []string) {
	s.call("POST", "/api/messages/broadcast", broadcastOf(text, ids))
}

func broadcastOf(text string, ids []string) object {
	return object{"message": object{"sender_id": 1, "text": text}, "user_ids": ids}
}

func queue(user string) string { return "/api/messages/queue/" + url.PathEscape(user) }

// lease leases all that a user has waiting.
func (s *service) lease(user string) (receipts []any) {
	answer := s.call("GET", queue(user)+"?lease=3600&max_count=1000", nil)
	for _, m := range answer["messages"].([]any) {
		receipts = append(receipts, m.(object)["receipt"])
	}
	if len(receipts) == 0 {
		panic(fmt.Errorf("%s has nothing to lease", user))
	}
	return receipts
}

func (s *service) settle(how, user string, more object) {
	body := object{"user_id": user, "receipts": s.lease(user)}
	maps.Copy(body, more)
	s.call("POST", "/api/messages/"+how, body)
}

// deadLetter makes undeliverable dead letters of the queued messages of users.
func (s *service) deadLetter(users ...string) {
	for _, user := range users {
		s.settle("nack", user, nil)
		s.settle("nack", user, nil)
	}
}

func (s *service) letters() []any {
	return s.call("GET", "/api/dead-letters?limit=1000", nil)["dead_letters"].([]any)
}

func (s *service) job(id any) object {
	return s.call("GET", fmt.Sprint("/api/jobs/", id), nil)["job"].(object)
}

func (s *service) drained() {
	s.await("the backend has all", func() bool { return s.stat("drain_lag_messages") == "0" })
}

// ids are n users of a broadcast.
func ids(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return all
}

const (
	large      = 5_000  // a broadcast that is staged, and is in all its queues
	unfinished = 40_000 // one that is staged, and is not
)

// makeStore makes the data directory.
func makeStore(path, dir string) (err error) {
	defer guard(&err)
	b := startBackend(false)
	defer b.Close()

	s := start(path, dir, b, "MESSAGE_RETENTION_DAYS=0.00003") // under three seconds
	defer func() { s.Kill() }()
	s.front()
	s.stop()

	s = start(path, dir, b)
	s.sends()
	s.deliveries()
	s.broadcast("large", ids("large", large))
	s.await("the large broadcast is in its queues", func() bool { return s.stat("fanouts") == "0" })
	s.drained()
	s.stop()

	s = start(path, dir, b, "PERSIST_BATCH_SIZE=1") // so that the position of a replay moves
	s.jobs()
	s.backend.set(true, false)
	s.call("POST", "/api/dead-letters/redrive", object{"reason": "one reason"})
	s.send("7", "waits for the backend 1", nil)
	s.send("8", "refuse: waits for the backend 2", nil)
	s.send("later", "waits for the backend 3", object{"delay_seconds": 3e8})
	s.broadcast("waits for the backend", []string{"7", "8", "9"})
	s.broadcast("unfinished", ids("some", unfinished))
	s.stop()
	last := ids("some", unfinished)[unfinished-1]
	if out := command(path, "dump", "--json", "--data-dir", dir, "--queue", last); strings.TrimSpace(out) != "" {
		return errors.New("the last broadcast is in all its queues: the stop came too late, try again")
	}
	command(path, "verify", "--data-dir", dir)
	return nil
}

// front makes the part of the log that retention trims, with dead letters that
// outlive it.
func (s *service) front() {
	s.send("given-up", "given up, and its record is trimmed", nil)
	s.deadLetter("given-up")
	s.send("front", "refuse: its record is trimmed", nil)
	s.broadcast("front", []string{"front", "7", "8"})
	for n := range 20 {
		s.send("front", fmt.Sprint(n), nil)
	}
	s.await("the front is trimmed", func() bool { return s.stat("queue_messages") == "0" && len(s.letters()) == 2 })
}

// sends makes messages with all that a message may have.
func (s *service) sends() {
	for _, priority := range []string{"low", "normal", "high"} {
		s.send(7, priority, object{"priority": priority})
	}
	s.send("7", "integer and string ids", object{"conversation_id": "a:b", "sender_id": 9223372036854775807 / 2})
	s.send("guest@example.org", "metadata ✓ \" \\ \n", object{"metadata": object{"k": []any{1, nil, "x", object{"y": 1.5}}}, "message_type": "image"})
	s.send("0b0c7a52-5a0c-4f0e-9d59-7d0a7f5f4a11", "unknown fields", object{"extra": object{"a": []int{1, 2}}, "reply_to": nil})
	s.send("8", "all defaults given", object{"message_type": "text", "priority": "normal", "metadata": object{}})
	s.send("8", "not for the backend", object{"persist": false})
	s.send("later", "delayed", object{"delay_seconds": 3e8})
	s.send("later", "delayed until", object{"deliver_at": "2090-01-02T03:04:05.678Z", "priority": "high"})
	s.send("short", "expires", object{"ttl_seconds": 3e8})
	s.send("short", "expires at", object{"expires_at": "2090-01-02T03:04:05Z"})
	s.send("both", "delayed, and expires", object{"delay_seconds": 3e8, "ttl_seconds": 4e8})
	s.call("POST", "/api/messages/batch", object{"messages": []object{draft("batch", "1", nil), draft(9, "2", object{"priority": "low"}), draft("batch", "3", object{"persist": false}), draft("batch", "4", object{"ttl_seconds": 3e8})}})
	s.broadcast("small", []string{"7", "8", "9", "guest@example.org"})
	for _, reason := range []string{"one reason", "another reason"} {
		s.send("9", "refuse: "+reason, nil)
	}
	s.broadcast("refuse: a broadcast", []string{"7", "8", "9"})
	s.broadcast("refuse: only one for 8", []string{"7", "8", "9"})
	for _, k := range keyed {
		s.call("POST", k.Path, k.Body, "Idempotency-Key", k.Key)
	}
	s.drained()
}

// keyedCall is a call with an idempotency key.
type keyedCall struct {
	Key, Path string
	Body      object
}

var keyed = []keyedCall{
	{"send-1", "/api/messages/send", draft("keyed", "with a key", nil)},
	{"batch-1", "/api/messages/batch", object{"messages": []object{draft("keyed", "1", nil), draft("keyed", "2", nil)}}},
	{"broadcast-1", "/api/messages/broadcast", broadcastOf("with a key", []string{"keyed", "7"})},
}

// deliveries makes queues that readers have been at.
func (s *service) deliveries() {
	for _, user := range []string{"taken", "cleared", "nacked", dueLater, "leased", "acked", "given-up"} {
		for n := range 3 {
			s.send(user, fmt.Sprint(user, " ", n), nil)
		}
	}
	s.call("GET", queue("taken")+"?max_count=2", nil)
	s.call("DELETE", queue("cleared"), nil)
	s.settle("nack", "nacked", nil)
	s.settle("nack", dueLater, object{"delay_seconds": 86400})
	s.settle("ack", "acked", nil)
	s.deadLetter("given-up")
	givenUp := []string{"given-up-1", "given-up-2", "given-up-3"}
	s.broadcast("given up by all", givenUp)
	s.deadLetter(givenUp...)
	s.broadcast("given up by one", givenUp)
	s.deadLetter("given-up-2")
	s.lease("leased")
}

// jobs makes jobs in all states that the service shows by itself.
func (s *service) jobs() {
	s.send("9", "refuse: and stored later", nil)
	s.send("9", "refuse: again and again", nil)
	s.drained()
	redrive := func(reason string, good bool) {
		s.backend.set(false, good)
		id := s.call("POST", "/api/dead-letters/redrive", object{"reason": reason})["job"].(object)["id"]
		s.await("the redrive ends", func() bool { return s.job(id)["state"] != "running" })
		s.backend.set(false, false)
	}
	redrive("and stored later", true)
	redrive("again and again", false)
	replay := func(request object) any {
		return s.call("POST", "/api/replay", request)["job"].(object)["id"]
	}
	progress := func(id any) bool {
		done, err := s.job(id)["done"].(json.Number).Int64()
		must(err)
		return done >= 2
	}
	last := s.call("POST", "/api/messages/send", draft("9", "the last that a replay sends", nil))["sequence"]
	s.drained()
	s.backend.set(false, true)
	cancelled := replay(object{"from_sequence": 1, "conversation_id": 12, "rate": 1})
	s.await("the first replay sends", func() bool { return progress(cancelled) })
	s.call("DELETE", fmt.Sprint("/api/jobs/", cancelled), nil)
	running := replay(object{"from_sequence": 30, "to_sequence": last, "conversation_id": 12, "rate": 5})
	s.await("the second replay sends", func() bool { return progress(running) })
}
