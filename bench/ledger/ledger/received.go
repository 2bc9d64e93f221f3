package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// received is a message as a reader or Django receives it.
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

var errNotOurs = errors.New("the message is not from a ledger")

// receive parses a message. The members that the service adds come first. The members
// that the client wrote must follow unchanged, so their bytes are kept as a digest.
func receive(raw []byte) (r received, err error) {
	var decoded struct {
		ID         string  `json:"id"`
		Sequence   uint64  `json:"sequence"`
		CreatedAt  string  `json:"created_at"`
		DeliverAt  string  `json:"deliver_at"`
		Receipt    string  `json:"receipt"`
		Deliveries int     `json:"deliveries"`
		Receiver   anyText `json:"receiver_id"`
		Ledger     string  `json:"ledger"`
	}
	if err := json.Unmarshal(raw, &decoded); err != nil {
		return r, fmt.Errorf("a message that is not JSON: %w", err)
	}
	r = received{id: decoded.ID, sequence: decoded.Sequence, receipt: decoded.Receipt, deliveries: decoded.Deliveries, user: string(decoded.Receiver)}
	var ok bool
	if r.ref, ok = parseRef(decoded.Ledger); !ok {
		return r, fmt.Errorf("%w: %.200s", errNotOurs, raw)
	}
	added := fmt.Sprintf(`{"id":"%s","sequence":%d,"created_at":"%s",`, decoded.ID, decoded.Sequence, decoded.CreatedAt)
	if decoded.DeliverAt != "" {
		added += fmt.Sprintf(`"deliver_at":"%s",`, decoded.DeliverAt)
	}
	if decoded.Receipt != "" {
		added += fmt.Sprintf(`"receipt":"%s","deliveries":%d,`, decoded.Receipt, decoded.Deliveries)
	}
	tail := bytes.TrimPrefix(raw, []byte(added)) // if the message begins differently, the digest does not match
	r.digest = digest(tail)
	r.poison = bytes.Contains(tail, []byte(`"poison":true`))
	return r, nil
}

// anyText is the text of a JSON string or number.
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
