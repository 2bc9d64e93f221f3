package tables

import (
	"errors"

	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// IdempotencyRecord returns the result of the first call with an idempotency key. ok is
// false if the key was not used.
func (r Reader) IdempotencyRecord(scope [16]byte, key string) (o schema.IdempotencyRecord, ok bool, err error) {
	err = r.get(schema.AppendIdempotencyKey(nil, scope, key), func(v []byte) error {
		if o, err = schema.DecodeIdempotencyRecord(v); err != nil {
			return damagedKey("k", err)
		}
		return nil
	})
	if errors.Is(err, layout.ErrNotFound) {
		return schema.IdempotencyRecord{}, false, nil
	}
	return o, err == nil, err
}

// IdempotencyExpiries returns up to limit idempotency keys that expire between two times
// in Unix milliseconds.
func (r Reader) IdempotencyExpiries(from, at int64, limit int) (ends []schema.IdempotencyExpiry, err error) {
	err = r.scan(schema.NumberKey(schema.TableIdempotencyExpiry, schema.TimeNumber(from)), schema.NumberKey(schema.TableIdempotencyExpiry, schema.TimeNumber(at)+1), func(key, _ []byte) (bool, error) {
		end, err := schema.ParseIdempotencyExpiryKey(key)
		if err != nil {
			return false, damagedKey("x", err)
		}
		ends = append(ends, end)
		return len(ends) < limit, nil
	})
	return ends, err
}
