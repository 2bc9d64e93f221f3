package schema

import (
	"testing"

	"github.com/stayafrica/messaging"
)

func FuzzKeys(f *testing.F) {
	f.Add(AppendEntryKey(nil, Queued, "user", messaging.Low, 7))
	f.Add(AppendEntryKey(nil, Delayed, "user", messaging.High, 1<<60))
	f.Add(AppendTimerKey(nil, Due, Timer{At: 5, Sequence: 6, User: "user"}))
	f.Add(IdempotencyExpiryKey(5, [16]byte{1}, "key"))
	f.Fuzz(func(t *testing.T, key []byte) {
		user, p, seq, err := ParseEntryKey(key)
		if err == nil && string(AppendEntryKey(nil, Index(key[0]), user, p, seq)) != string(key) {
			t.Errorf("%x is read as %s %s %d", key, user, p, seq)
		}
		if timer, err := ParseTimerKey(key); err == nil && timer.At >= 0 && string(AppendTimerKey(nil, Event(key[0]), timer)) != string(key) {
			t.Errorf("%x is read as %+v", key, timer)
		}
		if end, err := ParseIdempotencyExpiryKey(key); err == nil && end.At >= 0 && string(IdempotencyExpiryKey(end.At, end.Scope, end.Key)[1:]) != string(key[1:]) {
			t.Errorf("%x is read as %+v", key, end)
		}
	})
}

func FuzzValues(f *testing.F) {
	u := QueueState{Depth: Depth{Counts: [3]uint64{1, 2, 3}, Heads: [3]uint64{4, 5, 600}}}
	f.Add(u.Append(nil))
	u.Delayed = u.Depth
	f.Add(u.Append(nil))
	f.Add(Entry{Quoted: true, Deliveries: 300, Expires: 5, Due: 6}.Append(nil))
	once := IdempotencyRecord{Expires: 7, Receipt: messaging.SendResult{Sequence: 1, Recipients: 2, Count: 3}}
	f.Add(once.Append(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		if u, err := DecodeQueueState(value); err == nil {
			if again, err := DecodeQueueState(u.Append(nil)); err != nil || again != u {
				t.Errorf("%+v became %+v (%v)", u, again, err)
			}
		}
		if e, err := DecodeEntry(value); err == nil && e.Expires >= 0 && e.Due >= 0 {
			if again, err := DecodeEntry(e.Append(nil)); err != nil || again != e {
				t.Errorf("%+v became %+v (%v)", e, again, err)
			}
		}
		if o, err := DecodeIdempotencyRecord(value); err == nil && o.Expires >= 0 {
			if again, err := DecodeIdempotencyRecord(o.Append(nil)); err != nil || again != o {
				t.Errorf("%+v became %+v (%v)", o, again, err)
			}
		}
		key := AppendUserID(nil, TableClear, "user")
		if c, err := DecodeClear(key, value); err == nil {
			var again [ClearLen]byte
			if c.Encode(again[:]); string(again[:]) != string(value) {
				t.Errorf("%x is read as %+v", value, c)
			}
		}
		_, _ = DecodeMeta(value)
	})
}
