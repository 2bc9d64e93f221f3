package tables

import (
	"encoding/binary"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// PutLetterMessage writes the message of dead letters of a kind, once for all recipients.
func (w *Writer) PutLetterMessage(k schema.LetterMessageKey, m *messaging.Message) {
	w.must(w.batch.Set(schema.EncodeLetterMessageKey(k), schema.EncodeLetterMessage(m), nil))
}

// DeleteLetterMessage removes the message of dead letters, with the last of its letters.
func (w *Writer) DeleteLetterMessage(k schema.LetterMessageKey) {
	w.must(w.batch.Delete(schema.EncodeLetterMessageKey(k), nil))
}

// PutLetter writes a dead letter and its id.
func (w *Writer) PutLetter(k schema.LetterKey, l *schema.Letter) {
	w.must(w.batch.Set(schema.EncodeLetterKey(k), l.Encode(), nil))
	value := binary.BigEndian.AppendUint64(nil, k.Sequence)
	w.must(w.batch.Set(schema.LetterIDKey(schema.LetterID{Kind: k.Kind, Message: l.ID}), binary.BigEndian.AppendUint64(value, k.Reason), nil))
}

// DeleteLetter removes a dead letter, but not its id and recipients.
func (w *Writer) DeleteLetter(k schema.LetterKey) {
	w.must(w.batch.Delete(schema.EncodeLetterKey(k), nil))
}

// DeleteLetterID removes an id.
func (w *Writer) DeleteLetterID(id schema.LetterID) {
	w.must(w.batch.Delete(schema.LetterIDKey(id), nil))
}

// PutLetterRecipient writes one recipient of a dead letter.
func (w *Writer) PutLetterRecipient(k schema.LetterKey, user messaging.UserID, r *schema.LetterRecipient) {
	w.must(w.batch.Set(schema.RecipientKey(k, user), r.Encode(), nil))
}

// DeleteLetterRecipient removes one recipient.
func (w *Writer) DeleteLetterRecipient(k schema.LetterKey, user messaging.UserID) {
	w.must(w.batch.Delete(schema.RecipientKey(k, user), nil))
}

// DeleteLetterRecipients removes all recipients of a dead letter. It is a range delete:
// do not call it for a few recipients.
func (w *Writer) DeleteLetterRecipients(k schema.LetterKey) {
	prefix := schema.RecipientsPrefix(k)
	w.must(w.batch.DeleteRange(prefix, schema.PrefixEnd(prefix), nil))
}

// PutLetterCount writes the number of dead letters of a kind.
func (w *Writer) PutLetterCount(kind messaging.DeadLetterKind, n uint64) {
	w.must(w.batch.Set(schema.KindKey(schema.TableLetterCount, kind), binary.BigEndian.AppendUint64(nil, n), nil))
}

// PutPosition writes the drain's position.
func (w *Writer) PutPosition(p messaging.Position) {
	w.must(w.batch.Set([]byte{schema.TablePosition}, schema.EncodePosition(p), nil))
}

// PutJob writes a job. Its id has at most 64 bytes.
func (w *Writer) PutJob(id string, j schema.JobRecord) {
	w.must(w.batch.Set(schema.JobKey(id), j.Encode(), nil))
}

// DeleteJob removes a job.
func (w *Writer) DeleteJob(id string) { w.must(w.batch.Delete(schema.JobKey(id), nil)) }
