package ledger

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// get requests a JSON document from the service.
func (w *wire) get(path string, into any) error {
	status, responseBody, err := w.do(http.MethodGet, path, "", "", nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%w: %s: %d %.300q", errAnswer, path, status, responseBody)
	}
	return json.Unmarshal(responseBody, into)
}

// readQueues reads every queue to its end. It takes under leases and does not
// acknowledge, so another judge finds the same messages after a restart.
func readQueues(base string, p Plan) (map[int][]received, error) {
	w, err := newWire(base)
	if err != nil {
		return nil, err
	}
	defer w.close()
	for user := range p.Users {
		if err := w.allDue(user); err != nil {
			return nil, err
		}
	}
	time.Sleep(enqueueTime)
	left := make(map[int][]received)
	for user := range p.Users {
		for {
			var raw jsontext.Value
			if err := w.get(fmt.Sprintf("/api/messages/queue/%s?max_count=1000&lease=3600", userName(user)), &raw); err != nil {
				return nil, fmt.Errorf("read the queue of user %s: %w", userName(user), err)
			}
			page, err := readAnswer(raw)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			left[user] = append(left[user], page...)
		}
	}
	return left, nil
}

const (
	// dueWithin is how long delayed messages may take to be due.
	dueWithin = 10 * time.Second
	// enqueueTime is how long a message may be counted before it is delivered: sizes
	// include the commit in progress, and readers get only durable messages.
	enqueueTime = 500 * time.Millisecond
)

// allDue waits until a queue has no delayed message.
func (w *wire) allDue(user int) error {
	for deadline := time.Now().Add(dueWithin); ; pause() {
		var size struct {
			Delayed int `json:"delayed"`
		}
		if err := w.get("/api/messages/queue/"+userName(user)+"/size", &size); err != nil {
			return err
		}
		if size.Delayed == 0 || time.Now().After(deadline) {
			return nil // missing messages are reported as missing
		}
	}
}

// readDeadLetters lists the messages that are dead letters.
func readDeadLetters(base string) (list []received, err error) {
	w, err := newWire(base)
	if err != nil {
		return nil, err
	}
	defer w.close()
	for after := ""; ; {
		var page struct {
			Letters []struct {
				Message jsontext.Value `json:"message"`
			} `json:"dead_letters"`
			Next *string `json:"next"`
		}
		if err := w.get("/api/dead-letters?limit=1000&after="+url.QueryEscape(after), &page); err != nil {
			return nil, fmt.Errorf("list the dead letters: %w", err)
		}
		for _, letter := range page.Letters {
			m, err := receive(letter.Message)
			if err != nil && !errors.Is(err, errNotOurs) {
				return nil, err
			}
			list = append(list, m)
		}
		if page.Next == nil {
			return list, nil
		}
		after = *page.Next
	}
}
