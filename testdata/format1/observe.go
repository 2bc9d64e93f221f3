package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// observed is what a program shows of the store. Its order is that of the look:
// first nothing is changed and the backend is down; then leases, keys and a
// backend that stores all.
type observed struct {
	// Settings are those to open the store with.
	Settings []string `json:"settings"`
	// FirstSequence and LastSequence bound the records of the log.
	FirstSequence json.Number `json:"first_sequence"`
	LastSequence  json.Number `json:"last_sequence"`
	// Stats has the counts of /api/stats that a start keeps.
	Stats object `json:"stats"`
	// Queues are those of users, and of some receivers of large broadcasts: the size,
	// and what a peek gives. Of the queue [dueLater] it is the total alone.
	Queues map[string]queueState `json:"queues"`
	// DeadLetters is the listing, in full.
	DeadLetters object `json:"dead_letters"`
	// Jobs has all jobs.
	Jobs []any `json:"jobs"`
	// Deliveries are those of what a lease gives of the queue "nacked".
	Deliveries []any `json:"deliveries"`
	// Keyed are calls that came before, with the same keys, and what they give. They
	// hold until KeyedUntil.
	Keyed      []keyedAnswer `json:"keyed"`
	KeyedUntil time.Time     `json:"keyed_until"`
	// Stored is what a backend gets once it takes all, of the drain, of the
	// replay and of the redrive: by sequence, the ids.
	Stored map[string]stored `json:"stored"`
	// Ended has all jobs after that, but for when they ended, and EndedLetters how many
	// dead letters are left.
	Ended        []any `json:"ended"`
	EndedLetters any   `json:"ended_dead_letters"`
}

type queueState struct {
	Size     object `json:"size"`
	Messages any    `json:"messages"`
}

type keyedAnswer struct {
	Call   keyedCall `json:"call"`
	Answer object    `json:"answer"`
}

// stored are the ids of a sequence. Their digest is of the ids, in order, each with
// a line feed.
type stored struct {
	Count  int    `json:"count"`
	SHA256 string `json:"sha256"`
}

func observe(path, dir string, keyed bool) (o *observed, err error) {
	defer guard(&err)
	o = &observed{Settings: settings}
	o.FirstSequence, o.LastSequence = ends(path, dir)
	b := startBackend(true)
	defer b.Close()
	s := start(path, dir, b)
	defer func() { s.Kill() }()
	s.await("the broadcasts are in their queues", func() bool { return s.stat("fanouts") == "0" })
	stats := s.call("GET", "/api/stats", nil)
	o.Stats = object{}
	for _, name := range []string{"queue_messages", "drain_lag_messages", "leases", "fanouts"} {
		o.Stats[name] = stats[name]
	}
	o.Queues = make(map[string]queueState)
	for _, user := range slices.Concat(users, some(ids("large", large)), some(ids("some", unfinished))) {
		size := s.call("GET", queue(user)+"/size", nil)
		delete(size, "status")
		if user == dueLater {
			o.Queues[user] = queueState{Size: object{"total": size["total"]}}
			continue
		}
		o.Queues[user] = queueState{Size: size, Messages: s.call("GET", queue(user)+"?peek=true&max_count=1000", nil)["messages"]}
	}
	o.DeadLetters = s.call("GET", "/api/dead-letters?limit=1000", nil)
	o.Jobs = s.allJobs()
	for _, m := range s.call("GET", queue("nacked")+"?lease=60&max_count=1000", nil)["messages"].([]any) {
		o.Deliveries = append(o.Deliveries, m.(object)["deliveries"])
	}
	if keyed {
		s.keyed(o)
	}
	s.backend.set(false, true)
	s.drained()
	s.await("the jobs end", func() bool { return !strings.Contains(fmt.Sprint(s.allJobs()), "state:running") })
	o.Stored, o.Ended, o.EndedLetters = b.stored(), s.allJobs(), s.call("GET", "/api/dead-letters", nil)["total"]
	for _, j := range o.Ended {
		delete(j.(object), "finished_at")
	}
	s.stop()
	command(path, "verify", "--data-dir", dir)
	return o, nil
}

// some are some users of a broadcast.
func some(ids []string) []string { return []string{ids[0], ids[len(ids)/2], ids[len(ids)-1]} }

// ends are the first and the last sequence of the log.
func ends(path, dir string) (first, last json.Number) {
	for line := range strings.Lines(command(path, "dump", "--json", "--limit=0", "--data-dir", dir)) {
		var record struct {
			Sequence json.Number `json:"sequence"`
		}
		must(json.Unmarshal([]byte(line), &record))
		if first == "" {
			first = record.Sequence
		}
		last = record.Sequence
	}
	return first, last
}

// allJobs lists jobs, but for how long they still take.
func (s *service) allJobs() []any {
	jobs := s.call("GET", "/api/jobs", nil)["jobs"].([]any)
	for _, j := range jobs {
		delete(j.(object), "eta_seconds")
	}
	return jobs
}

// keyed makes the calls with keys again.
func (s *service) keyed(o *observed) {
	for _, k := range keyed {
		answer := s.call("POST", k.Path, k.Body, "Idempotency-Key", k.Key)
		if answer["duplicate"] != true {
			panic(errors.New("the idempotency keys of the store are over: make it again"))
		}
		o.Keyed = append(o.Keyed, keyedAnswer{k, answer})
	}
	for _, m := range o.Queues["keyed"].Messages.([]any) {
		at, err := time.Parse(time.RFC3339, fmt.Sprint(m.(object)["created_at"]))
		must(err)
		o.KeyedUntil = at.Add(30 * 24 * time.Hour)
		return
	}
}

func (b *backend) stored() map[string]stored {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]stored)
	for sequence, ids := range b.got {
		digest := sha256.New()
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			fmt.Fprintln(digest, id)
		}
		if _, err := strconv.ParseUint(sequence, 10, 64); err != nil {
			panic(err)
		}
		all[sequence] = stored{Count: len(ids), SHA256: hex.EncodeToString(digest.Sum(nil))}
	}
	return all
}
