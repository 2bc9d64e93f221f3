package tables

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// PutClear marks all entries of a user's queue up to a sequence as cleared.
func (w *Writer) PutClear(c schema.Clear) {
	w.set(schema.AppendUserID(nil, schema.TableClear, c.User), schema.ClearLen, c.Encode)
}

// DeleteClear removes the mark after the last of its entries.
func (w *Writer) DeleteClear(user messaging.UserID) {
	w.must(w.batch.Delete(schema.AppendUserID(nil, schema.TableClear, user), nil))
}

// Clears returns the unfinished clears.
func (r Reader) Clears() (clears []schema.Clear, err error) {
	err = r.scan([]byte{schema.TableClear}, []byte{schema.TableClear + 1}, func(key, value []byte) (bool, error) {
		c, err := schema.DecodeClear(key, value)
		if err != nil {
			return false, damagedKey("c", err)
		}
		clears = append(clears, c)
		return true, nil
	})
	return clears, err
}

// Cleared returns the sequence up to which each user's queue is cleared.
func Cleared(r Reader) (schema.Cleared, error) {
	cleared := make(schema.Cleared)
	clears, err := r.Clears()
	for _, c := range clears {
		cleared[c.User] = c.UpTo
	}
	return cleared, err
}
