package rigs_test

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
	// openLoopConnections bounds what an open loop may have on its way at once.
	openLoopConnections = 4000
	// batchOf is how many messages a sender sends at a time: so many that they
	// cost the service more than the load generator, which runs beside it.
	batchOf = 50
)

// sender sends batches of messages, and knows which were accepted. It is safe
// for concurrent use, but for its fields.
type sender struct {
	url     string
	users   int
	client  *http.Client
	counter atomic.Uint64

	mu  sync.Mutex
	ids map[string]bool // accepted
	// unknown counts sends of which there is no answer: they may be there or not.
	unknown int
}

func newSender(url string, users int) *sender {
	return &sender{
		url: url + "/api/messages/batch", users: users, ids: make(map[string]bool),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 512}},
	}
}

// sent is one batch and its answer; the status is 0 where there was none.
type sent struct {
	at, took time.Duration // since the load began, and since it was sent
	status   int
	header   http.Header
	failure  string
}

// sends are the sends of a load.
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

// body is a batch to one user.
func (c *sender) body() []byte {
	user := c.counter.Add(1) % uint64(c.users)
	message := fmt.Sprintf(`{"conversation_id":%d,"sender_id":1,"receiver_id":%d,"text":"%0200d"}`, user, user, user)
	return []byte(`{"messages":[` + strings.Repeat(message+",", batchOf-1) + message + `]}`)
}

// note remembers an answer.
func (c *sender) note(status int, answer []byte) {
	var receipt struct{ Messages []struct{ ID string } }
	_ = json.Unmarshal(answer, &receipt) // what is no receipt has no messages
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
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		c.note(0, nil)
		s.failure = err.Error()
		return s
	}
	c.note(response.StatusCode, answer)
	s.status, s.header = response.StatusCode, response.Header
	return s
}

// closedLoop sends from so many connections, each the next batch when it has
// the answer to the last one.
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

// openLoop sends at a rate, whatever becomes of what was sent before.
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

// holds takes all that the service has for the sender's users: it must be what
// was accepted, and nothing else but what nobody knows about.
func (v *victim) holds(c *sender) {
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
		v.Errorf("%d messages are there that were not accepted; %d were sent without an answer", strange, c.unknown)
	}
}

// take takes messages of a user's queue and gives their ids.
func (v *victim) take(user int) (ids []string) {
	v.Helper()
	var taken struct {
		Messages []struct{ ID string } `json:"messages"`
	}
	answer := v.must(http.MethodGet, fmt.Sprintf("/api/messages/queue/%d?max_count=1000", user), nil)
	if err := json.Unmarshal(answer, &taken); err != nil {
		v.Fatal(err)
	}
	for _, m := range taken.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}
