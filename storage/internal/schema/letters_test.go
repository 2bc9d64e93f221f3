package schema

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

// letterUser returns a random user id.
func letterUser(r *rand.Rand) messaging.UserID {
	return messaging.UserID(strings.Repeat("u", 1+r.IntN(messaging.MaxIDLength-4)) + fmt.Sprint(r.IntN(1000)))
}

func randomID(r *rand.Rand) (id messaging.MessageID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func randomMessage(r *rand.Rand) messaging.Message {
	id := randomID(r)
	m := messaging.Message{
		ID: id, Origin: id, Position: messaging.Position{Sequence: r.Uint64()}, CreatedAt: time.UnixMilli(r.Int64N(1 << 42)),
		Priority: messaging.Priority(r.IntN(messaging.Priorities)), Defaulted: messaging.DefaultedFields(r.IntN(8)),
		Conversation: strings.Repeat("c", r.IntN(messaging.MaxIDLength+1)), Body: []byte(`{"text":"` + strings.Repeat("x", r.IntN(100)) + `"}`),
	}
	if m.Copy = r.IntN(2) == 0; !m.Copy {
		m.Receiver = messaging.Receiver{User: letterUser(r), Quoted: r.IntN(2) == 0}
	}
	for _, at := range []*time.Time{&m.DeliverAt, &m.ExpiresAt} {
		if r.IntN(2) == 0 {
			*at = time.UnixMilli(1 + r.Int64N(1<<42))
		}
	}
	return m
}

func TestValuesOfDeadLettersComeBackAsTheyWere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		l := Letter{
			ID: randomID(r), Named: messaging.Receiver{User: letterUser(r), Quoted: r.IntN(2) == 0}, Number: r.Uint32(), StatusCode: r.IntN(1000),
			Attempts: r.IntN(1 << 20), FailedAt: time.Unix(0, r.Int64()), LastFailedAt: time.Unix(0, r.Int64()), Recipients: r.Uint32(),
			Reason: strings.Repeat("é", r.IntN(messaging.MaxReason/2)),
		}
		if got, err := DecodeLetter(l.Encode()); err != nil || got != l {
			t.Fatalf("%+v became %+v (%v)", l, got, err)
		}
		recipient := LetterRecipient{Number: r.Uint32(), Quoted: r.IntN(2) == 0, Attempts: r.Uint32(), Job: strings.Repeat("j", r.IntN(MaxJobID+1))}
		if got, err := DecodeLetterRecipient(recipient.Encode()); err != nil || got != recipient {
			t.Fatalf("%+v became %+v (%v)", recipient, got, err)
		}
		m := randomMessage(r)
		if got, err := DecodeLetterMessage(m.Position.Sequence, EncodeLetterMessage(&m)); err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v became %+v (%v)", m, got, err)
		}
		p := messaging.Position{Sequence: r.Uint64(), Receiver: r.Uint32()}
		if got, err := DecodePosition(EncodePosition(p)); err != nil || got != p {
			t.Fatalf("%+v became %+v (%v)", p, got, err)
		}
		j := JobRecord{Ended: r.IntN(2) == 0, Record: []byte(strings.Repeat("r", 1+r.IntN(50)))}
		if got, err := DecodeJob(j.Encode()); err != nil || !reflect.DeepEqual(got, j) {
			t.Fatalf("%+v became %+v (%v)", j, got, err)
		}
	}
}

func TestKeysOfDeadLettersComeBackInTheirOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	numbers := []uint64{0, 1, math.MaxUint64, r.Uint64(), r.Uint64()}
	for _, kind := range LetterKinds() {
		for _, seq := range numbers {
			for _, reason := range numbers {
				k, user := LetterKey{kind, seq, reason}, letterUser(r)
				if got, err := ParseLetterKey(EncodeLetterKey(k)); err != nil || got != k {
					t.Errorf("%+v became %+v (%v)", k, got, err)
				}
				if got, err := ParseLetterMessageKey(EncodeLetterMessageKey(k.Message())); err != nil || got != k.Message() {
					t.Errorf("%+v became %+v (%v)", k.Message(), got, err)
				}
				if got, who, err := ParseRecipientKey(RecipientKey(k, user)); err != nil || got != k || who != user {
					t.Errorf("%+v of %s became %+v of %s (%v)", k, user, got, who, err)
				}
			}
		}
		id := LetterID{kind, randomID(r)}
		if got, err := ParseLetterIDKey(LetterIDKey(id)); err != nil || got != id {
			t.Errorf("%s became %s (%v)", id, got, err)
		}
	}
	k := LetterKey{messaging.Refused, 7, 3}
	ordered := [][]byte{
		RecipientKey(k, "b"), RecipientKey(k, "aa"), RecipientKey(LetterKey{messaging.Refused, 8, 3}, "a"),
		RecipientKey(LetterKey{messaging.Refused, 7, 4}, "a"), RecipientKey(LetterKey{messaging.Undeliverable, 1, 1}, "a"),
	}
	if !slices.IsSortedFunc(ordered, slices.Compare) {
		t.Errorf("recipients are not in the order of kind, reason, sequence, user: %x", ordered)
	}
}

func FuzzLetterKeys(f *testing.F) {
	k := LetterKey{messaging.Refused, 7, 1 << 60}
	f.Add(EncodeLetterKey(k))
	f.Add(EncodeLetterMessageKey(k.Message()))
	f.Add(RecipientKey(k, "user"))
	f.Add(LetterIDKey(LetterID{messaging.Undeliverable, messaging.MessageID{1}}))
	f.Fuzz(func(t *testing.T, key []byte) {
		if len(key) == 0 {
			return
		}
		same := func(again []byte, err error) {
			if err == nil && string(again[1:]) != string(key[1:]) {
				t.Errorf("%x is read as %x", key, again)
			}
		}
		k, err := ParseLetterKey(key)
		same(EncodeLetterKey(k), err)
		m, err := ParseLetterMessageKey(key)
		same(EncodeLetterMessageKey(m), err)
		k, user, err := ParseRecipientKey(key)
		same(RecipientKey(k, user), err)
		id, err := ParseLetterIDKey(key)
		same(LetterIDKey(id), err)
	})
}

func FuzzLetterValues(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	m := randomMessage(r)
	l := Letter{ID: m.ID, Named: messaging.Receiver{User: "user"}, Attempts: 300, FailedAt: time.Unix(5, 0), LastFailedAt: time.Unix(6, 0), Recipients: 1, Reason: "r"}
	recipient := LetterRecipient{Number: 7, Attempts: 1, Job: "job"}
	job := JobRecord{Ended: true, Record: []byte(`{}`)}
	for _, value := range [][]byte{
		l.Encode(), recipient.Encode(), EncodeLetterMessage(&m), EncodePosition(messaging.Position{Sequence: 1, Receiver: 2}), job.Encode(),
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if l, err := DecodeLetter(value); err == nil {
			if again, err := DecodeLetter(l.Encode()); err != nil || again != l {
				t.Errorf("%+v became %+v (%v)", l, again, err)
			}
		}
		if r, err := DecodeLetterRecipient(value); err == nil && string(r.Encode()) != string(value) {
			t.Errorf("%x is read as %+v", value, r)
		}
		if m, err := DecodeLetterMessage(9, value); err == nil {
			if again, err := DecodeLetterMessage(9, EncodeLetterMessage(&m)); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("%+v became %+v (%v)", m, again, err)
			}
		}
		if p, err := DecodePosition(value); err == nil && string(EncodePosition(p)) != string(value) {
			t.Errorf("%x is read as %+v", value, p)
		}
		if j, err := DecodeJob(value); err == nil && string(j.Encode()) != string(value) {
			t.Errorf("%x is read as %+v", value, j)
		}
		_, _ = DecodeLetterID(LetterID{Kind: messaging.Refused}, value)
	})
}
