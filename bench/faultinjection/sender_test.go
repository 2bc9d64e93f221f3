package faultinjection_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	// openLoopConnections bounds the concurrent requests of an open loop.
	openLoopConnections = 4000
	// batchOf is how many messages a sender sends per request: enough that they cost
	// the service more than the load generator on the same machine.
	batchOf = 50
)

// sender sends batches of messages and records which were accepted. Its methods are
// safe for concurrent use, its fields are not.
type sender struct {
	url     string
	users   int
	client  *http.Client
	counter atomic.Uint64

	mu  sync.Mutex
	ids map[string]bool // accepted ids
	// unknown counts sends without a response: their messages may or may not be
	// present.
	unknown int
}

func newSender(url string, users int) *sender {
	return &sender{
		url: url + "/api/messages/batch", users: users, ids: make(map[string]bool),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 512}},
	}
}

// sent is one batch and its response; status is 0 without a response.
type sent struct {
	at, took time.Duration // at since the load began, took since the batch was sent
	status   int
	header   http.Header
	failure  string
}

// sends are the sends of one load.
type sends struct {
	lasting time.Duration
	all     []sent
}

func (s sends) accepted() (l latencies) {
	for i := range s.all {
		if s.all[i].status == http.StatusOK {
			l = append(l, s.all[i].took)
		}
	}
	return l
}

func (s sends) perSecond() float64 { return float64(len(s.accepted())) / s.lasting.Seconds() }

// body returns a batch to one user.
func (c *sender) body() []byte {
	user := c.counter.Add(1) % uint64(c.users)
	message := fmt.Sprintf(`{"conversation_id":%d,"sender_id":1,"receiver_id":%d,"text":"%0200d"}`, user, user, user)
	return []byte(`{"messages":[` + strings.Repeat(message+",", batchOf-1) + message + `]}`)
}

// note records a response.
func (c *sender) note(status int, responseBody []byte) {
	var receipt struct{ Messages []struct{ ID string } }
	_ = json.Unmarshal(responseBody, &receipt) // a body that is not a receipt has no messages
	c.mu.Lock()
	defer c.mu.Unlock()
	switch status {
	case 0:
		c.unknown += batchOf
	case http.StatusOK:
		for _, m := range receipt.Messages {
			c.ids[m.ID] = true
		}
	}
}

// send sends one batch.
func (c *sender) send() (s sent) {
	began := time.Now()
	response, err := c.client.Post(c.url, "application/json", bytes.NewReader(c.body()))
	s.took = time.Since(began)
	if err != nil {
		c.note(0, nil)
		s.failure = err.Error()
		return s
	}
	defer response.Body.Close()
	responseBody, err := io.ReadAll(response.Body)
	if err != nil {
		c.note(0, nil)
		s.failure = err.Error()
		return s
	}
	c.note(response.StatusCode, responseBody)
	s.status, s.header = response.StatusCode, response.Header
	return s
}

// closedLoop sends from that many connections; each sends its next batch after the
// response to the last one.
func (c *sender) closedLoop(connections int, lasting time.Duration) sends {
	var mu sync.Mutex
	result := sends{lasting: lasting}
	began := time.Now()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			var own []sent
			for at := time.Since(began); at < lasting; at = time.Since(began) {
				s := c.send()
				s.at = at
				own = append(own, s)
			}
			mu.Lock()
			defer mu.Unlock()
			result.all = append(result.all, own...)
		})
	}
	wg.Wait()
	return result
}

// openLoop sends at a fixed rate, independent of the responses.
func (c *sender) openLoop(perSecond int, lasting time.Duration) (all []sent) {
	attacker := vegeta.NewAttacker(vegeta.Timeout(30*time.Second), vegeta.Connections(openLoopConnections), vegeta.MaxWorkers(openLoopConnections))
	targeter := func(t *vegeta.Target) error {
		t.Method, t.URL, t.Body = http.MethodPost, c.url, c.body()
		t.Header = http.Header{"Content-Type": {"application/json"}}
		return nil
	}
	began := time.Now()
	for result := range attacker.Attack(targeter, vegeta.Rate{Freq: perSecond, Per: time.Second}, lasting, "overload") {
		c.note(int(result.Code), result.Body)
		all = append(all, sent{
			at: result.Timestamp.Sub(began), took: result.Latency, status: int(result.Code), header: result.Headers, failure: result.Error,
		})
	}
	return all
}

// checkMessages takes everything that the service has for the sender's users: it must
// be exactly what was accepted, plus possibly messages of unknown outcome.
func (v *target) checkMessages(c *sender) {
	v.Helper()
	found, strange := 0, 0
	for user := range c.users {
		for {
			ids := v.take(user)
			if len(ids) == 0 {
				break
			}
			for _, id := range ids {
				if c.ids[id] {
					found++
				} else {
					strange++
				}
			}
		}
	}
	if lost := len(c.ids) - found; lost != 0 {
		v.Errorf("%d of %d accepted messages are lost", lost, len(c.ids))
	}
	if strange > c.unknown {
		v.Errorf("%d messages are present that were not accepted; %d were sent without a response", strange, c.unknown)
	}
}

// take takes messages of a user's queue and returns their ids.
func (v *target) take(user int) (ids []string) {
	v.Helper()
	var taken struct {
		Messages []struct{ ID string } `json:"messages"`
	}
	responseBody := v.must(http.MethodGet, fmt.Sprintf("/api/messages/queue/%d?max_count=1000", user), nil)
	if err := json.Unmarshal(responseBody, &taken); err != nil {
		v.Fatal(err)
	}
	for _, m := range taken.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}
