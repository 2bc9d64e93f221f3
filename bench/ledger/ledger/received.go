package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// received is a message as a reader or Django gets it.
type received struct {
	id         string
	sequence   uint64
	receipt    string
	deliveries int
	ref        Ref
	user       string
	digest     uint64
	poison     bool
}

var errNotOurs = errors.New("a message that is not from a ledger")

// receive reads a message. The members that the service adds stand first; what
// the client wrote must follow them as it was, so what is behind is kept as a
// digest of its bytes.
func receive(raw []byte) (r received, err error) {
	var said struct {
		ID         string  `json:"id"`
		Sequence   uint64  `json:"sequence"`
		CreatedAt  string  `json:"created_at"`
		DeliverAt  string  `json:"deliver_at"`
		Receipt    string  `json:"receipt"`
		Deliveries int     `json:"deliveries"`
		Receiver   anyText `json:"receiver_id"`
		Ledger     string  `json:"ledger"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return r, fmt.Errorf("a message that is not JSON: %w", err)
	}
	r = received{id: said.ID, sequence: said.Sequence, receipt: said.Receipt, deliveries: said.Deliveries, user: string(said.Receiver)}
	var ok bool
	if r.ref, ok = parseRef(said.Ledger); !ok {
		return r, fmt.Errorf("%w: %.200s", errNotOurs, raw)
	}
	added := fmt.Sprintf(`{"id":"%s","sequence":%d,"created_at":"%s",`, said.ID, said.Sequence, said.CreatedAt)
	if said.DeliverAt != "" {
		added += fmt.Sprintf(`"deliver_at":"%s",`, said.DeliverAt)
	}
	if said.Receipt != "" {
		added += fmt.Sprintf(`"receipt":"%s","deliveries":%d,`, said.Receipt, said.Deliveries)
	}
	tail := bytes.TrimPrefix(raw, []byte(added)) // where it is something else, the digest will not match
	r.digest = digest(tail)
	r.poison = bytes.Contains(tail, []byte(`"poison":true`))
	return r, nil
}

// anyText is a string or a number, as its text.
type anyText string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *anyText) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] != '"' {
		*t = anyText(raw)
		return nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	*t = anyText(s)
	return err
}
