package repair

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// lettersStore returns a store with dead letters of both kinds, the drain's position and
// jobs.
func lettersStore(t *testing.T, spoil func(b *tables.Batch)) string {
	t.Helper()
	return filled(t, func(s *storage.Store) {
		for _, write := range []func(b *tables.Batch){putLetters, spoil} {
			b := s.NewBatch()
			write(b)
			b.Commit()
			b.Close()
		}
	})
}

var (
	single1 = schema.LetterKey{Kind: messaging.Undeliverable, Sequence: 3, Reason: schema.ReasonHash("nobody")}
	shared1 = schema.LetterKey{Kind: messaging.Refused, Sequence: 5, Reason: schema.ReasonHash("r")}
	alone1  = schema.LetterKey{Kind: messaging.Refused, Sequence: 7, Reason: schema.ReasonHash("r")}
)

func letterOf(k schema.LetterKey, users ...messaging.UserID) (schema.Letter, messaging.Message) {
	m := messaging.Message{
		ID: messaging.MessageID{byte(k.Sequence)}, Origin: messaging.MessageID{byte(k.Sequence)}, Position: messaging.Position{Sequence: k.Sequence},
		CreatedAt: time.UnixMilli(5), Receiver: messaging.Receiver{User: users[0]}, Copy: len(users) > 1, Body: []byte(`{"text":"x"}`),
	}
	id := m.ID
	if m.Copy {
		id = messaging.CopyID(m.Origin, users[0])
	}
	return schema.Letter{
		ID: id, Named: messaging.Receiver{User: users[0]}, Attempts: 1, FailedAt: time.Unix(5, 0), LastFailedAt: time.Unix(5, 0),
		Recipients: uint32(len(users)), Reason: map[schema.LetterKey]string{single1: "nobody", shared1: "r", alone1: "r"}[k],
	}, m
}

func putLetters(b *tables.Batch) {
	for k, users := range map[schema.LetterKey][]messaging.UserID{single1: {"a"}, shared1: {"a", "b", "c"}, alone1: {"d"}} {
		l, m := letterOf(k, users...)
		b.PutLetter(k, &l)
		b.PutLetterMessage(k.Message(), &m)
		for i, user := range users {
			b.PutLetterRecipient(k, user, &schema.LetterRecipient{Number: uint32(i), Attempts: 1})
		}
	}
	b.PutLetterCount(messaging.Refused, 2)
	b.PutLetterCount(messaging.Undeliverable, 1)
	b.PutPosition(messaging.Position{Sequence: 9, Receiver: 1})
	b.PutJob("one", schema.JobRecord{Record: []byte(`{"ID":"one"}`)})
	b.PutJob("two", schema.JobRecord{Ended: true, Record: []byte(`{"ID":"two"}`)})
}

// rest describes a store's dead letters, jobs and position.
func rest(t *testing.T, dir string) string {
	t.Helper()
	s := openDisk(t, dir)
	defer storagetest.Close(t, s)
	var parts []string
	if err := s.LetterIDs(schema.LetterID{}, func(_ schema.LetterID, k schema.LetterKey) bool {
		var users []string
		if err := s.LetterRecipients(k, "", func(user messaging.UserID, _ schema.LetterRecipient) bool {
			users = append(users, string(user))
			return true
		}); err != nil {
			t.Error(err)
		}
		parts = append(parts, fmt.Sprintf("%d:%s", k.Sequence, strings.Join(users, "")))
		return true
	}); err != nil {
		t.Error(err)
	}
	slices.Sort(parts)
	p, err := s.Position()
	if err != nil {
		t.Error(err)
	}
	jobs, err := s.Jobs()
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%s at %d %v", strings.Join(parts, " "), p.Sequence, slices.Sorted(maps.Keys(jobs)))
}

const wholeRest = "3:a 5:abc 7:d at 9 [one two]"

// set and remove change raw keys, as no writer of a store does.
func set(b *tables.Batch, key, value []byte) { tables.Set(b, key, value) }
func remove(b *tables.Batch, key []byte)     { tables.Delete(b, key) }

// letterDamages returns changes of each table of dead letters, with what a check reports
// and what a repair keeps.
func letterDamages() []letterDamage {
	l, m := letterOf(shared1, "a", "b", "c")
	rubbish := []byte{255, 1}
	named := schema.LetterID{Kind: messaging.Refused, Message: l.ID}
	const lost = "3:a 7:d at 9 [one two]" // without those of the broadcast
	return []letterDamage{
		{"o, removed", func(b *tables.Batch) { b.DeleteLetterMessage(shared1.Message()) }, "refused dead letter of message 5: has no message", lost},
		{"o, changed", func(b *tables.Batch) { set(b, schema.EncodeLetterMessageKey(shared1.Message()), rubbish) }, "message 5 of dead letters: cannot be read", lost},
		{"o, added", func(b *tables.Batch) {
			b.PutLetterMessage(schema.LetterMessageKey{Kind: messaging.Refused, Sequence: 8}, &m)
		}, "message 8 of dead letters: has no dead letter", wholeRest},
		{"o, no key", func(b *tables.Batch) { set(b, []byte{'o', 9, 9}, nil) }, "table o (messages of dead letters): has a malformed key", wholeRest},
		{"g, removed", func(b *tables.Batch) { b.DeleteLetter(shared1) }, "refused dead letter of message 5: is missing, but its recipients exist", lost},
		{"g, changed", func(b *tables.Batch) { set(b, schema.EncodeLetterKey(shared1), rubbish) }, "refused dead letter of message 5: cannot be read", lost},
		{"g, added", func(b *tables.Batch) {
			set(b, schema.EncodeLetterKey(schema.LetterKey{Kind: messaging.Refused, Sequence: 5, Reason: 1}), l.Encode())
		}, "refused dead letter of message 5: has a wrong number of recipients: 0 found, 3 counted", wholeRest},
		{"g, of another reason", func(b *tables.Batch) {
			other := l
			other.Reason = "another"
			b.PutLetter(shared1, &other)
		}, "refused dead letter of message 5: has a key that does not match its reason", lost},
		{"g, no key", func(b *tables.Batch) { set(b, []byte{'g', 1}, nil) }, "table g (dead letters): has a malformed key", wholeRest},
		{"r, removed", func(b *tables.Batch) { b.DeleteLetterRecipient(shared1, "b") }, "refused dead letter of message 5: has a wrong number of recipients: 2 found, 3 counted", "3:a 5:ac 7:d at 9 [one two]"},
		{"r, changed", func(b *tables.Batch) { set(b, schema.RecipientKey(shared1, "b"), rubbish) }, "refused dead letter of message 5: has recipients that cannot be read", "3:a 5:ac 7:d at 9 [one two]"},
		{"r, added", func(b *tables.Batch) { b.PutLetterRecipient(shared1, "dd", &schema.LetterRecipient{}) }, "refused dead letter of message 5: has a wrong number of recipients: 4 found, 3 counted", "3:a 5:abcdd 7:d at 9 [one two]"},
		{"r, no letter", func(b *tables.Batch) {
			b.PutLetterRecipient(schema.LetterKey{Kind: messaging.Refused, Sequence: 5, Reason: 1}, "dd", &schema.LetterRecipient{})
		}, "refused dead letter of message 5: is missing, but its recipients exist", wholeRest},
		{"r, no key", func(b *tables.Batch) { set(b, []byte{'r', 1, 2}, nil) }, "table r (recipients of dead letters): has a malformed key", wholeRest},
		{"i, removed", func(b *tables.Batch) { b.DeleteLetterID(named) }, "refused dead letter of message 5: is not found by its id", wholeRest},
		{"i, changed", func(b *tables.Batch) { set(b, schema.LetterIDKey(named), rubbish) }, "dead letter " + named.String() + ": cannot be read", wholeRest},
		{"i, elsewhere", func(b *tables.Batch) { set(b, schema.LetterIDKey(named), schema.EncodeLetterKey(alone1)[2:]) }, "dead letter " + named.String() + ": is missing, but its id exists", wholeRest},
		{"i, added", func(b *tables.Batch) {
			set(b, schema.LetterIDKey(schema.LetterID{Kind: messaging.Refused, Message: messaging.MessageID{9}}), schema.EncodeLetterKey(shared1)[2:])
		}, "dead letter refused-09000000-0000-0000-0000-000000000000: is missing, but its id exists", wholeRest},
		{"i, no key", func(b *tables.Batch) { set(b, []byte{'i', 1, 2}, nil) }, "table i (ids of dead letters): has a malformed key", wholeRest},
		{"n, removed", func(b *tables.Batch) { remove(b, schema.KindKey('n', messaging.Refused)) }, "table n (counts of dead letters): has a count of 0 for refused dead letters; found: 2", wholeRest},
		{"n, changed", func(b *tables.Batch) { set(b, schema.KindKey('n', messaging.Refused), rubbish) }, "table n (counts of dead letters): cannot be read", wholeRest},
		{"n, too many", func(b *tables.Batch) { b.PutLetterCount(messaging.Undeliverable, 7) }, "table n (counts of dead letters): has a count of 7 for undeliverable dead letters; found: 1", wholeRest},
		{"n, no key", func(b *tables.Batch) { set(b, []byte{'n', 9}, nil) }, "table n (counts of dead letters): has a malformed key", wholeRest},
		{"p, changed", func(b *tables.Batch) { set(b, []byte{'p'}, rubbish) }, "table p (drain position): cannot be read", "3:a 5:abc 7:d at 1 [one two]"},
		{"p, too far", func(b *tables.Batch) { b.PutPosition(messaging.Position{Sequence: 22}) }, "table p (drain position): says that the drain is at 22, after the end of the log at 20", "3:a 5:abc 7:d at 21 [one two]"},
		{"p, no key", func(b *tables.Batch) { set(b, []byte{'p', 1}, nil) }, "table p (drain position): has a malformed key", wholeRest},
		{"j, changed", func(b *tables.Batch) { set(b, schema.JobKey("two"), rubbish) }, "job two: cannot be read", "3:a 5:abc 7:d at 9 [one]"},
		{"j, no key", func(b *tables.Batch) { set(b, []byte{'j'}, rubbish) }, "table j (jobs): has a malformed key", wholeRest},
		{"q, a dead letter's", func(b *tables.Batch) {
			b.PutEntry(schema.Queued, "a", messaging.High, 3, schema.Entry{})
			u := schema.QueueState{Depth: schema.Depth{Counts: [3]uint64{1}, Heads: [3]uint64{3, 0, 0}}}
			b.PutQueueState("a", &u)
		}, "message 3 of user a: is both in the queue and a dead letter", "5:abc 7:d at 9 [one two]"},
	}
}

type letterDamage struct {
	name  string
	spoil func(b *tables.Batch)
	found string
	kept  string
}

func TestDamageOfEachTableOfDeadLettersIsFoundAndRepaired(t *testing.T) {
	whole := lettersStore(t, func(*tables.Batch) {})
	if report, err := fsck.Verify(repairConfig(whole)); err != nil || report.Found > 0 || report.DeadLetters != 3 {
		t.Fatalf("%+v (%v)", report, err)
	}
	if got := rest(t, whole); got != wholeRest {
		t.Fatalf("it has %s", got)
	}
	for _, d := range letterDamages() {
		t.Run(d.name, func(t *testing.T) {
			dir := lettersStore(t, d.spoil)
			report, err := fsck.Verify(repairConfig(dir))
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			for _, p := range report.Problems {
				told = append(told, p.Where+": "+p.What)
			}
			if !slices.ContainsFunc(told, func(p string) bool { return strings.HasPrefix(p, d.found) }) {
				t.Errorf("a check finds %q, want %q", told, d.found)
			}
			done, err := Repair(repairConfig(dir))
			if err != nil || done.After.Found > 0 {
				t.Fatalf("the repair leaves %+v (%v)", done.After, err)
			}
			if got := rest(t, dir); got != d.kept {
				t.Errorf("the repair keeps %s, want %s", got, d.kept)
			}
		})
	}
}
