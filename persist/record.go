package persist

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging"
)

// record is the stored form of a job: its request and its progress.
type record struct {
	messaging.Job

	Replay  *messaging.ReplayRequest
	Redrive *messaging.RedriveRequest
	// Position is the next position of a replay. Refused and Gone are the two parts of
	// Failed: messages that became dead letters, and sequences that were trimmed before
	// the replay read them.
	Position      messaging.Position
	Refused, Gone uint64
	// Cursor is the position of a redrive: all letters before Letter are done, and the
	// recipients of Letter up to After, or all of them if After is empty. Recipients
	// that remain dead letters are behind the cursor, so the record does not grow with
	// them.
	Cursor struct {
		Letter messaging.DeadLetterKey
		After  messaging.UserID
	} `json:"Place"` // the name that stored records have
	// ByID means that the request named letters by id; Named are the keys of the
	// letters that are left. An id may move to another letter, a key does not.
	ByID  bool
	Named []messaging.DeadLetterKey
	// Claims means that the job may still send what it has claimed, even after a
	// cancellation. The commit that clears it ends the claims.
	Claims bool
}

// progress returns the record in the form that a commit stores.
func (r *record) progress() (messaging.Progress, error) {
	text, err := json.Marshal(r, jsontext.AllowInvalidUTF8(true)) // a reason may be cut within a character
	if err != nil {
		return messaging.Progress{}, messaging.Internal(err)
	}
	return messaging.Progress{Job: r.ID, Record: text, Ended: r.State != messaging.JobRunning && !r.Claims}, nil
}
